"""Speed and memory on synthetic faces, printed with the machine that they were measured on."""
