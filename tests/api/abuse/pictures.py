"""Pictures that are bombs, damaged, turned, of other colours and depths, or move."""
import io
import struct
import threading
import zlib

import numpy as np
from abuse import GROWTH_MB, GROWTH_SMALL_MB, MODEL
from PIL import Image
from served import bare, expect, short


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, pixels, depth=8, colour=0):
    """A PNG of this declared size with these compressed pixels."""
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
            + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def flat(width, height):
    """A PNG of nothing, whole: thousands of times smaller than what it holds."""
    compressor, row = zlib.compressobj(1), b"\0" * (width + 1)
    return png(width, height, b"".join(compressor.compress(row * 64) for _ in range(height // 64)) + compressor.flush())


def saved(picture, kind, **options):
    data = io.BytesIO()
    picture.save(data, kind, **options)
    return data.getvalue()


def scene(bench):
    with Image.open(bench.picture) as opened:
        return opened.convert("RGB")


def refused(bench, what, data):
    answer = bench.infer(data)
    expect(answer.status == 400 and "Could not load input image." in answer.json()["message"], f"{what}: {answer}")


def bombs(bench):
    """A header that declares gigapixels, and small files that hold gigabytes, are refused before they are unpacked."""
    jpeg = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG"))
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5:at + 9] = struct.pack(">HH", 65_000, 65_000)
    gif = bytearray(saved(Image.new("P", (16, 16)), "GIF"))
    gif[6:10] = struct.pack("<HH", 65_000, 65_000)
    pieces = {"a header of 60000x60000": png(60_000, 60_000, zlib.compress(b"\0" * 100)),
              "a header of 2^31": png(0x7FFF_FFFF, 0x7FFF_FFFF, zlib.compress(b"\0")),
              "a header of 0x0": png(0, 0, zlib.compress(b"\0")),
              "20000x20000 of nothing": flat(20_000, 20_000),
              "a JPEG of 65000x65000": bytes(jpeg), "a GIF of 65000x65000": bytes(gif),
              "text that unpacks to gigabytes": text_bomb()}
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        for what, data in pieces.items():
            if what.startswith("text"):
                expect(bench.infer(data).status in (200, 400), what)
            else:
                refused(bench, what, data)
    bench.alive()
    return seen["note"]


def text_bomb():
    """A picture of one pixel with a compressed comment of a gigabyte."""
    compressor, block = zlib.compressobj(9), b"a" * (1 << 20)
    text = b"".join(compressor.compress(block) for _ in range(1024)) + compressor.flush()
    whole = png(1, 1, zlib.compress(b"\0\0"))
    return whole[:33] + chunk(b"zTXt", b"Comment\0\0" + text) + whole[33:]


def large(bench):
    """Sixteen clients with the largest picture that is allowed, at once: answered or refused, in bounded memory."""
    data, found, lock = flat(7040, 7040), [], threading.Lock()

    def ask():
        answer = bench.infer(data)
        with lock:
            found.append(answer.status)

    with bench.served.watched(GROWTH_MB) as seen:
        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    expect(set(found) <= {200, 503, 507} and 200 in found, f"{found}")
    bench.alive()
    return f"{found.count(200)} of 16 answered; {seen['note']}"


def truncated(bench):
    """A file that ends early is answered as the command line answers it, or refused as it refuses it."""
    picture = scene(bench)
    whole = {"JPEG": saved(picture, "JPEG"), "PNG": saved(picture, "PNG"), "WEBP": saved(picture, "WEBP"),
             "GIF": saved(picture, "GIF"), "BMP": saved(picture, "BMP"),
             "progressive": saved(picture, "JPEG", progressive=True)}
    with bench.served.watched(GROWTH_SMALL_MB) as seen:
        for kind, data in whole.items():
            for share in (1.0, 0.99, 0.5, 0.02, 0.0):
                as_the_command_line(bench, f"{kind} of {share:.0%}", data[:int(len(data) * share)] or b"x")
    bench.alive()
    return seen["note"]


def as_the_command_line(bench, what, data):
    """The same bytes in a file give the same answer, or the same refusal, on the command line."""
    answer = bench.infer(data)
    expected = bench.ground.infer(MODEL, bench.ground.keep("same", data))
    if "message" in expected:
        expect(answer.status == 400 and "Could not load input image." in answer.json()["message"],
               f"{what}: {answer}, the command line says {expected['message']}")
    else:
        expect(answer.status == 200 and bare(answer.json()) == expected, f"{what}: {answer} is not {short(expected)}")
    return answer


def kinds(bench):
    """Turned by EXIF, CMYK, grey, 16 bits, with alpha or a palette, animated: the command line's answer, with detections."""
    picture = scene(bench)
    deep = np.asarray(picture.convert("L")).astype(np.uint16) * 257
    turned = Image.Exif()
    moving = [picture, Image.new("RGB", picture.size)]
    made = {"EXIF 1": saved(picture, "JPEG"), "CMYK": saved(picture.convert("CMYK"), "JPEG"),
            "grey": saved(picture.convert("L"), "JPEG"), "16 bits": saved(Image.fromarray(deep), "PNG"),
            "alpha": saved(picture.convert("RGBA"), "PNG"), "palette": saved(picture.quantize(64), "PNG"),
            "one bit": saved(picture.convert("1"), "PNG"), "16 bits of TIFF": saved(Image.fromarray(deep), "TIFF"),
            "TIFF": saved(picture, "TIFF"), "lossless WebP": saved(picture, "WEBP", lossless=True),
            "moving GIF": saved(moving[0], "GIF", save_all=True, append_images=moving[1:]),
            "moving PNG": saved(moving[0], "PNG", save_all=True, append_images=moving[1:]),
            "moving WebP": saved(moving[0], "WEBP", save_all=True, append_images=moving[1:])}
    for orientation in range(2, 9):
        turned[0x0112] = orientation
        made[f"EXIF {orientation}"] = saved(picture, "JPEG", exif=turned)
    for what, data in made.items():
        answer = as_the_command_line(bench, what, data)
        if answer.status == 200:
            size = answer.json()["image"]
            straight = what[:4] != "EXIF" or int(what[5:]) < 5
            expect((size["width"], size["height"]) == ((640, 480) if straight else (480, 640)), f"{what}: {size}")
        expect(answer.status == 200 or "TIFF" in what or "moving" in what, f"{what}: {answer}")
    bench.alive()


def damaged(bench):
    """Pictures with seeded damage: an answer or a refusal, and no defect."""
    picture = scene(bench).resize((160, 120))
    whole = [saved(picture, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    chance = np.random.default_rng(bench.seed)
    with bench.served.watched(GROWTH_MB) as seen:
        for index in range(6000 if bench.full else 240):
            data = bytearray(whole[index % len(whole)])
            for at in chance.integers(0, len(data), 1 + index % 8):
                data[at] = chance.integers(256)
            answer = bench.infer(bytes(data))
            expect(answer.status in (200, 400, 507), f"damage {index} of seed {bench.seed}: {answer}")
    bench.alive()
    return seen["note"]


CHECKS = (bombs, large, truncated, kinds, damaged)
