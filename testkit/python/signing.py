"""Checks that Mantlet's bundles and the OpenSSF Model Signing command line understand each other.

Run: python signing.py --data-dir DIR --mantlet BIN
     python signing.py make OUT

The first deploys a model, exports its signed bundle and has `model_signing verify key` accept it; then
the same command must refuse the bundle with one byte flipped in each file in turn, with a file added,
with a file taken away, and under another key. The second makes a bundle the other way round, for
Mantlet to verify: OUT/model with OUT/model.sig beside it, OUT/signed with its model.sig inside, both
under a fresh P-256 key whose public half is OUT/key.pub.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import make_models
from node import Mantlet

MODEL_NAME = "signing"
SIGNATURE = "model.sig"


def model_signing(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the tool as a user would, in a process of its own."""
    command = [sys.executable, "-m", "model_signing", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def verify(bundle: Path, key: Path) -> subprocess.CompletedProcess[str]:
    """`model_signing verify key` on a folder that holds its own signature."""
    return model_signing(
        *("verify", "key", str(bundle)),
        *("--signature", str(bundle / SIGNATURE)),
        *("--public_key", str(key)),
    )


def write_key_pair(folder: Path) -> tuple[Path, Path]:
    """A fresh P-256 pair in PEM: the private half, which only the caller keeps, and the public."""
    private = ec.generate_private_key(ec.SECP256R1())
    secret, public = folder / "key.pem", folder / "key.pub"
    secret.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    public.write_bytes(
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return secret, public


def flip_one_bit(path: Path) -> None:
    """Changes one bit of the byte in the middle; in a signature that lies inside the payload."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def tampered_copies(bundle: Path, scratch: Path) -> dict[str, Path]:
    """Copies of the bundle by what was done to them, each wrong in one way."""
    copies = {}
    files = sorted(path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file())

    def copy(what: str) -> Path:
        copies[what] = scratch / f"copy-{len(copies)}"
        shutil.copytree(bundle, copies[what])
        return copies[what]

    for name in files:
        what = f"one bit of {name} flipped"
        flip_one_bit(copy(what) / name)
    (copy("a file added") / "added.txt").write_text("not signed\n")
    for name in files:
        if name.name != SIGNATURE:
            (copy(f"{name} taken away") / name).unlink()
    return copies


def check(data_dir: Path, binary: str) -> int:
    """Prints one line per check and returns how many failed."""
    results: dict[str, bool] = {}
    key = data_dir / "bundle.pub"
    if not key.is_file():
        raise SystemExit(
            f"{key} is not there\nhint: start the node once, it writes its public keys"
        )
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        (path,) = [p for p in make_models.build(scratch / "made") if p.stem == "dynamic_batch"]
        mantlet = Mantlet(binary, data_dir)
        mantlet.deploy(path, MODEL_NAME)
        bundle = scratch / "bundle"
        mantlet.export(MODEL_NAME, bundle)

        answer = verify(bundle, key)
        results["the exported bundle is accepted"] = answer.returncode == 0
        if answer.returncode != 0:
            print(answer.stdout + answer.stderr)
        for wanted in ("model.onnx", "manifest.json", SIGNATURE):
            results[f"{wanted} is in it"] = (bundle / wanted).is_file()
        same = (bundle / "model.onnx").read_bytes() == path.read_bytes()
        results["model.onnx in it is the one deployed"] = same
        for what, copy in tampered_copies(bundle, scratch).items():
            results[f"refused: {what}"] = verify(copy, key).returncode != 0
        _, stranger = write_key_pair(scratch)
        results["refused: under another key"] = verify(bundle, stranger).returncode != 0

    for what, held in results.items():
        print(f"{'ok' if held else 'FAILED':6} {what}")
    failed = sum(not held for held in results.values())
    print(f"{len(results) - failed} passed, {failed} failed")
    return failed


def make(out: Path) -> None:
    """Signs a small model with the tool, the signature once beside the folder and once inside."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        secret, public = write_key_pair(Path(name))
        shutil.copyfile(public, out / "key.pub")
        signatures = {"model": out / SIGNATURE, "signed": out / "signed" / SIGNATURE}
        for folder, signature in signatures.items():
            model = out / folder
            shutil.rmtree(model, ignore_errors=True)
            model.mkdir()
            (path,) = [p for p in make_models.build(Path(name) / folder) if p.stem == "simple"]
            shutil.copyfile(path, model / "model.onnx")
            (model / "notes").mkdir()
            (model / "notes" / "origin.txt").write_text("made by testkit/python/signing.py\n")
            answer = model_signing(
                *("sign", "key", str(model)),
                *("--private_key", str(secret)),
                *("--signature", str(signature)),
            )
            if answer.returncode != 0:
                raise SystemExit(
                    f"model_signing could not sign: {answer.stdout}{answer.stderr}\n"
                    "hint: pip install -r testkit/python/requirements.txt"
                )
            print(f"{model} signed in {signature}")


def main() -> None:
    if sys.argv[1:2] == ["make"]:
        parser = argparse.ArgumentParser(
            prog="signing.py make", description="Makes a signed bundle."
        )
        parser.add_argument("out", type=Path, help="folder to write the bundle into")
        make(parser.parse_args(sys.argv[2:]).out)
        return
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="signing.py make OUT makes a signed bundle."
    )
    parser.add_argument("--data-dir", type=Path, required=True, help="the node's data directory")
    parser.add_argument("--mantlet", required=True, help="the mantlet binary")
    arguments = parser.parse_args()
    raise SystemExit(1 if check(arguments.data_dir, arguments.mantlet) else 0)


if __name__ == "__main__":
    main()
