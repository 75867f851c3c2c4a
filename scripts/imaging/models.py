"""Packages of models, put below a cache root of the image as `src/cache` reads them."""

import json
import os
import shutil
from pathlib import Path

from .tools import ImageError, say

MODEL_TYPE = "model_type.json"
BLOBS = "shared-blobs"
# Of a cache root, what another program needs to write there and no reader does.
LEFT_OUT = {"_file_locks", "usage.db"}


def install(folders, destination):
    """Copies each folder, a classic package or a whole cache root, and returns the ids of their models."""
    destination.mkdir(parents=True)
    ids = []
    for given in map(Path, folders):
        if not given.is_dir():
            raise ImageError(f"--model {given}: no such directory")
        if (given / MODEL_TYPE).is_file():
            # By its path when it does not say its id: PROJECT/VERSION, as the cache would have it.
            name = stated(given / MODEL_TYPE, "model_id") or "/".join(given.resolve().parts[-2:])
            if any(part in ("", ".", "..") for part in name.split("/")):
                raise ImageError(f"--model {given}: model_id {name!r} of {MODEL_TYPE} is no model id")
            shutil.copytree(given, destination / name, dirs_exist_ok=True)
            ids.append(name)
            continue
        found = models_of(given)
        if not found:
            raise ImageError(f"--model {given}: neither {MODEL_TYPE} nor a package of a model below it; "
                             "expected a model's directory or a cache root")
        copy_root(given.resolve(), destination)
        ids += found
    return list(dict.fromkeys(ids))


def stated(file, *keys):
    try:
        values = json.loads(file.read_text())
        return next((values[key] for key in keys if isinstance(values.get(key), str)), None)
    except (OSError, ValueError, AttributeError):
        return None


def models_of(root):
    """Ids of the models in a cache root, sorted: what the packages state, else what their directories are called."""
    ids = set()
    for file in root.rglob(MODEL_TYPE):
        if (file.parent / "environment.json").exists():
            ids.add(stated(file, "model_id") or file.parent.relative_to(root).as_posix())
    for file in (root / "models-cache").glob("*/*/model_config.json"):
        record = root / "offline-weights-registry" / f"{file.parent.parent.name}.json"
        name = stated(file, "model_id", "canonical_model_id") or stated(record, "canonical_model_id")
        if name:
            ids.add(name)
        else:
            say(f"warning: {file} states no model id")
    return sorted(ids)


def copy_root(root, destination):
    """Copies a cache root. A link to a blob means the blob of that name in this cache, wherever it leads: it is kept,
    made relative. A link to something else of the cache is kept so too, and one that leads out is refused."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        below = Path(folder).relative_to(root)
        (destination / below).mkdir(parents=True, exist_ok=True)
        for name in sorted([*files, *(name for name in folders if (Path(folder) / name).is_symlink())]):
            source, copy = Path(folder) / name, destination / below / name
            if name in LEFT_OUT or name.endswith(".lock"):
                continue
            if source.is_symlink():
                copy.unlink(missing_ok=True)
                copy.symlink_to(os.path.relpath(destination / linked(source, root), copy.parent))
            elif source.is_file():
                shutil.copyfile(source, copy)


def linked(link, root):
    """Where a link leads, as a path below the cache root."""
    target = Path(os.readlink(link))
    if target.parent.name == BLOBS and (root / BLOBS / target.name).exists():
        return Path(BLOBS) / target.name
    end = link.resolve()
    if not end.is_relative_to(root) or not end.exists():
        raise ImageError(f"{link}: leads to {end}, which is not in the cache {root}")
    return end.relative_to(root)
