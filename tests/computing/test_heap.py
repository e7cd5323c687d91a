import platform
import subprocess
import sys

import pytest

# Pages that the system hands out while 64 MB are taken and freed for the second to the fifth time.
COUNT_PAGES = """
import resource
{first}
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * (64 << 20)
before = pages()
for _ in range(4):
    b"x" * (64 << 20)
print(pages() - before)
"""
KEEP = "from stages.computing.heap import keep_freed_memory; keep_freed_memory()"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other memory allocators differ")
def test_freed_memory_is_used_again() -> None:
    without, kept = (
        int(subprocess.check_output([sys.executable, "-c", COUNT_PAGES.format(first=first)]))
        for first in ("", KEEP)
    )
    assert kept < 100 < without


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.computing import heap

    monkeypatch.setattr(heap.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(heap.ctypes, "CDLL", None)
    heap.keep_freed_memory()
