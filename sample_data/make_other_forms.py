"""Write the sample data in other forms: the maps one file an image, the RoIs as COCO's JSON.

Run in this folder: ``python make_other_forms.py``.
"""

import json
from pathlib import Path

import h5py
import numpy as np

NAMES = ("page", "astronaut")


def main() -> None:
    """``maps/NAME.npy`` is level p5 of an image, ``detections.json`` has its boxes."""
    Path("maps").mkdir(exist_ok=True)
    with h5py.File("text_fpn.h5") as file:
        for name, values in zip(NAMES, file["p5"][:], strict=True):
            np.save(f"maps/{name}.npy", values)
    annotations = []
    for number, (image, x1, y1, x2, y2) in enumerate(np.load("text_rois.npy").tolist()):
        box = [x1, y1, x2 - x1, y2 - y1]
        annotation = {"id": number, "image_id": int(image) + 1, "category_id": 1, "bbox": box}
        annotations.append(annotation)
    images = [
        {"id": number, "file_name": f"{name}.jpg", "height": 512, "width": 512}
        for number, name in enumerate(NAMES, 1)
    ]
    document = {
        "images": images,
        "categories": [{"id": 1, "name": "text"}],
        "annotations": annotations,
    }
    Path("detections.json").write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
