"""helpers.inspector.panes: what is sent to the browser, and what comes back; the browser's part: test_browser.py."""

import cv2
import numpy as np
import pytest

from helpers.inspector.panes import HERE, MODES, Pane, Panes, encode


def decode(content):
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def test_encode_keeps_every_pixel(faces):
    assert np.array_equal(decode(encode(faces[0]))[..., ::-1], faces[0])
    assert np.array_equal(decode(encode(faces[0, :, ::-1]))[..., ::-1], faces[0, :, ::-1])  # a view
    edges = (faces[0, ..., 0] > 100).astype(np.uint8)
    assert np.array_equal(decode(encode(edges)), edges * 255)


def test_show(faces):
    panes = Panes()
    panes.show([Pane("left", faces[0], "20 dB"), Pane("right", faces[1])], "wipe")
    assert panes.mode == "wipe" and [p["title"] for p in panes.panes] == ["left", "right"]
    assert np.array_equal(decode(panes.panes[1]["png"])[..., ::-1], faces[1]) and panes.panes[0]["note"] == "20 dB"


def test_gallery_is_one_sheet(faces):
    """Thumbnail k is found at row k // columns, column k % columns."""
    panes = Panes()
    panes.show_gallery(faces, [str(k) for k in range(12)], list(range(100, 112)), 105)
    sent, sheet = panes.gallery, decode(panes.gallery["png"])[..., ::-1]
    assert sheet.shape == (128, 640, 3) and np.array_equal(sheet[64:, 64:128], faces[11])
    assert sent["current"] == 105 and sent["picks"][11] == 111 and panes.mode == "gallery"


def test_photo_and_square(faces):
    panes = Panes(mode="crop")
    panes.show_photo(faces[0][:48], (8, 0, 48))
    assert panes.photo["size"] == [64, 48] and panes.crop == [8, 0, 48]
    panes.show_photo(None)
    assert panes.photo["png"] == b""


def test_uploads_arrive_in_parts():
    """Servers close a connection at a message of 10 MB, so the browser cuts files up."""
    got, panes = [], Panes()
    panes.on_upload = lambda name, content: got.append((name, content))
    for part, chunk in enumerate([b"abc", b"def", b"g"]):
        assert got == []
        panes._receive(panes, {"upload": "me.jpg", "part": part, "parts": 3}, [memoryview(chunk)])
    assert got == [("me.jpg", b"abcdefg")]
    panes._receive(panes, {"upload": "cut off.jpg", "part": 0, "parts": 2}, [memoryview(b"xx")])
    panes._receive(panes, {"upload": "new.jpg", "part": 0, "parts": 1}, [memoryview(b"yy")])  # forgets the other
    assert got[1:] == [("new.jpg", b"yy")]


def test_arrow_keys_arrive():
    got, panes = [], Panes()
    panes.on_step = got.append
    panes._receive(panes, {"step": -1}, [])
    assert got == [-1]


def test_downloads_are_sent(monkeypatch):
    sent, panes = [], Panes()
    monkeypatch.setattr(panes, "send", lambda content, buffers=None: sent.append((content, buffers)))
    panes.download("a.png", b"content")
    assert sent == [({"download": "a.png", "type": "image/png"}, [b"content"])]


def test_nothing_comes_from_elsewhere():
    """The script and the style name no other place, and every mode has its function."""
    script, style = (HERE / "panes.js").read_text(encoding="utf-8"), (HERE / "panes.css").read_text(encoding="utf-8")
    assert "://" not in script + style and "import " not in script and "url(" not in style
    assert [mode for mode in MODES if f"    {mode}() {{" not in script] == []


def test_readable_without_a_browser(faces):
    panes = Panes()
    panes.show([Pane("blurred", faces[0])])
    assert repr(panes) == "Panes(panes: blurred) - run the notebook to see it"
    with pytest.raises(Exception, match="mode"):
        panes.mode = "cinema"
