from stages.runtime.seed import generator
from tools.sample.identity import draw_identity, luma, shade, tint


def test_people_differ_and_repeat():
    people = [draw_identity(generator(n, "who")) for n in range(200)]
    assert people == [draw_identity(generator(n, "who")) for n in range(200)]
    assert len(set(people)) == 200
    for trait in ("style", "beard", "glasses", "freckles", "earrings", "iris"):
        assert len({getattr(who, trait) for who in people}) > 1, trait
    tones = [luma(who.skin) for who in people]
    assert min(tones) < 100 < 200 < max(tones)


def test_colours_stay_in_range():
    assert shade((200, 100, 0), 2) == (255, 200, 0)
    assert tint((0, 0, 0), (100, 200, 50), 0.5) == (50, 100, 25)
