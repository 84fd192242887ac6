"""How much a file, an archive or a download may take: each limit of this file, stated once.

What one picture may take is stated in `pictures/limits.py`, which is logged with each model.
"""

MIB = 2**20

# The page
MAX_UPLOAD_BYTES = 64 * MIB  # of one uploaded file
MAX_UPLOADS_BYTES = 2048 * MIB  # of all uploads that it keeps
UPLOADS_KEPT = (60, 3600)  # seconds: each minute, uploads that are older than an hour are deleted
MAX_RESULTS_BYTES = 2048 * MIB  # of all results that it keeps
MAX_EVENT_BYTES = MIB  # of one event, such as a move of a slider
MAX_PICTURES_AT_ONCE = 20  # of one upload
MAX_WAITING = 50  # events of visitors

# Files, archives and the download of pictures.
# A picture of 64 megapixels and 16 bits, not compressed, with transparency: 512 million bytes.
MAX_PICTURE_BYTES = 512 * MIB
MAX_PAGES = 2000  # of one file
MAX_DEPTH = 100  # folders in each other; Python calls itself at most 1,000 times deep
# The Kaggle archive holds 5,700 entries and under 2 GiB; a phone's whole library fits as well.
MAX_ENTRIES = 200_000
MAX_DIRECTORY_BYTES = 64 * MIB  # the list of entries: some 100 bytes for each
MAX_TAR_HEADER_BYTES = MIB  # of an entry: its name and its attributes
MAX_ARCHIVE_BYTES = 64 * 1024 * MIB  # unpacked
# Pictures hardly shrink in a .zip; a drawing kept as .bmp can by a factor of a hundred or so.
# Deflate ends at 1,032: what comes near it was made to fill disks.
MAX_RATIO = 300
SMALL_ENTRY_BYTES = MIB  # below, an entry's ratio means nothing,
SMALL_ARCHIVE_BYTES = 64 * MIB  # nor that of all pictures of an archive
MAX_KAGGLE_BYTES = 4 * 1024 * MIB
# A download must bring this much in each such time; the largest then ends within three days.
MIN_PROGRESS_BYTES = MIB
PROGRESS_SECONDS = 60

# Networks of others: their download, their files, what they compute.
MAX_WEIGHTS_BYTES = 1024 * MIB  # 268 million numbers; the largest U-Nets of pix2pix have 54
# That of EfficientNet-B7, of 814 layers, takes 0.75 million bytes.
MAX_CONFIG_BYTES = 2 * MIB
# Weights hardly shrink; halved to float16 and with nine in ten of them zero, they are a tenth.
MAX_WEIGHTS_RATIO = 20
SMALL_WEIGHTS_BYTES = MIB  # below, the ratio means nothing
MAX_LAYERS = 2000  # a network within a network counts each time that it is called
# All that is computed on the way from one picture to its colors: 512 MiB of float32. A U-Net of
# 64 filters at 128 x 128 computes 50 million values, ours around an encoder 23 million. A
# network of larger pictures may compute more, by their area.
MAX_VALUES = 128 * 1024**2
# Pictures at once, for no more than about 2 GiB: Keras keeps all those values until the last.
KERAS_AT_ONCE = 2
ONNX_AT_ONCE = 4
