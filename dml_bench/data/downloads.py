"""Where the data sets can be fetched from, and the checksums that their users have published."""

from __future__ import annotations

from dml_bench.data.fetch import Download

CUB = (
    "https://data.caltech.edu/records/65de6-vp158/files/",
    "http://www.vision.caltech.edu/visipedia-data/CUB-200-2011/",
)
CARS = ("http://ai.stanford.edu/~jkrause/car196/", "http://imagenet.stanford.edu/internal/car196/")
MNIST = ("http://yann.lecun.com/exdb/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/")
FASHION = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
LFW, FIGSHARE = "http://vis-www.cs.umass.edu/lfw/", "https://ndownloader.figshare.com/files/"
CIFAR = "https://www.cs.toronto.edu/~kriz/"

DOWNLOADS: dict[str, tuple[Download, ...]] = {
    "cub200": (
        Download(
            "CUB_200_2011.tgz",
            tuple(f"{host}CUB_200_2011.tgz" for host in CUB),
            sha256="0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
            size=1_150_585_339,
        ),
    ),
    "cars196": (
        Download("car_ims.tgz", tuple(f"{h}car_ims.tgz" for h in CARS), md5="d5c8f0aa497503f355e17dc7886c3f14"),
        Download("cars_annos.mat", tuple(f"{h}cars_annos.mat" for h in CARS), md5="b407c6086d669747186bd1d764ff9dbc"),
    ),
    "sop": (
        Download(
            "Stanford_Online_Products.zip",
            ("ftp://cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",),
            sha256="b04fa78210e69fab050ce73939550e1cd0f96890bdd98ec9fee732c3b756ef48",
            size=3_083_860_082,
        ),
    ),
    "omniglot": tuple(
        Download(f"{name}.zip", (f"{OMNIGLOT}{name}.zip",), md5=md5)
        for name, md5 in (
            ("images_background", "68d2efa1b9178cc56df9314c21c6e718"),
            ("images_evaluation", "6b91aef0f799c5bb55b94e3f2daec811"),
        )
    ),
    "mnist": tuple(
        Download(f"{name}-ubyte.gz", tuple(f"{host}{name}-ubyte.gz" for host in MNIST), md5=md5)
        for name, md5 in (
            ("train-images-idx3", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1", "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3", "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1", "ec29112dd5afa0611ce80d1b7f02629c"),
        )
    ),
    "fashion_mnist": tuple(
        Download(f"{name}-ubyte.gz", tuple(f"{host}{name}-ubyte.gz" for host in FASHION), md5=md5)
        for name, md5 in (
            ("train-images-idx3", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1", "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3", "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1", "bb300cfdad3c16e7a12a480ee83cd310"),
        )
    ),
    "cifar10": (
        Download("cifar-10-python.tar.gz", (f"{CIFAR}cifar-10-python.tar.gz",), md5="c58f30108f718f92721af3b95e74349a"),
    ),
    "cifar100": (
        Download(
            "cifar-100-python.tar.gz", (f"{CIFAR}cifar-100-python.tar.gz",), md5="eb9058c3a382ffc7106e4002c42a8d85"
        ),
    ),
    "lfw": (
        Download(
            "lfw.tgz",
            (f"{LFW}lfw.tgz", f"{FIGSHARE}5976018"),
            sha256="055f7d9c632d7370e6fb4afc7468d40f970c34a80d4c6f50ffec63f5a8d536c0",
        ),
        Download("pairs.txt", (f"{LFW}pairs.txt", f"{FIGSHARE}5976006"), md5="9f1ba174e4e1c508ff7cdf10ac338a7d"),
    ),
}
"""By data set; the files go to the folder of that name below the folder of data sets."""

BY_HAND = {
    "caltech101": ("101_ObjectCategories.tar.gz", "http://www.vision.caltech.edu/Image_Datasets/Caltech101/"),
    "grocery_store": ("the folder dataset", "https://github.com/marcusklasson/GroceryStoreDataset"),
    "inshop": (
        "Img/img.zip and Eval/list_eval_partition.txt",
        "http://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
    ),
}
"""What a person fetches, and from which page, of a data set without a link of its own or a published checksum."""
