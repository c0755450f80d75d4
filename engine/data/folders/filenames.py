"""What a file is, by its name alone: a picture, something else, or a file of the operating system."""

from typing import Literal

Kind = Literal["picture", "unknown", "other", "hidden", "system"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


PICTURES = _set(
    "png apng jpg jpeg jpe jfif mpo webp bmp dib gif tif tiff ppm pgm pbm pnm pfm tga icb vda vst jp2 j2k "
    "j2c jpx jpf jpc pcx avif avifs"
)
"""Extensions of the formats that `engine.data.decoding.pictures` decodes."""
_USUAL = PICTURES | {ending.upper() for ending in PICTURES}
UNREAD = _set("heic heif hif svg psd eps ps ai ico icns exr hdr jxl dng cr2 cr3 nef arw orf rw2 raf dcm dicom xcf djvu")
"""Extensions of pictures that are not decoded. Such a file is a picture that cannot be read, not some other file."""
OTHERS = _set(
    "txt text md rst rtf html htm css js xml json jsonl ndjson csv tsv xls xlsx ods doc docx pdf ppt pptx "
    "tex bib yaml yml toml ini cfg conf log lst list names py pyc ipynb m r sh bat ps1 c h cpp parquet "
    "arrow feather h5 hdf5 mat npy npz pkl pickle pt pth ckpt safetensors onnx pb tfrecord tfrecords lmdb "
    "mdb db sqlite sqlite3 bin zip tar gz tgz bz2 xz zst 7z rar md5 sha1 sha256 sum torrent mp4 avi mov "
    "mkv webm mpg mpeg wav mp3 flac ogg m4a ttf otf exe dll so lock bak tmp part crdownload cache lnk url"
)
"""Extensions of files that are no pictures; anything else is judged by its contents."""
SYSTEM = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", "__macosx", "icon\r", "lost+found"))


def kind_of_file(name: str) -> Kind:
    """The kind of a file, by its name; `unknown` where only its contents can tell."""
    head, dot, ending = name.rpartition(".")
    if dot and ending in _USUAL and head and name[0] != ".":  # millions of files: the usual ones first
        return "picture"
    if name.startswith("._") or name.lower() in SYSTEM:
        return "system"
    if name.startswith("."):
        return "hidden"
    ending = extension(name)
    if ending in PICTURES or ending in UNREAD:
        return "picture"
    return "other" if ending in OTHERS else "unknown"


def extension(name: str) -> str:
    """`jpg` for `a/B.JPG`; empty where there is none."""
    dot = name.rfind(".")
    return name[dot + 1 :].lower() if dot > name.rfind("/") + 1 else ""


def text_of(name: str) -> str:
    """A file's name as text: bytes that are not UTF-8, and halves of a surrogate pair, could not be stored or shown."""
    return name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
