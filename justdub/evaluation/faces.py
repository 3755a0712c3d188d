"""Where the face and its mouth are, by mediapipe's face mesh where it is installed (extra `face`).

Legend: F frames, H/W height/width, 3 RGB, L landmarks (478), K corners of a polygon, 2 x and y in pixels.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from justdub.errors import BadInputError, MissingError
from justdub.faces.quiet import silent

if TYPE_CHECKING:
    from justdub.evaluation.sample import Clip, Sample

LANDMARKS = 478
# The outline of the face, around once (mediapipe's face oval).
OUTLINE = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
MARGIN = 1.15  # the polygon is drawn larger by this: codecs smear its edge
SEEN = 0.5  # share of the frames in which a face must be found
_CROP, _SIDE = 2.2, 384  # a small face is found again in a cut-out of 2.2 times its box, at 384 pixels
_REMEDY = "pip install 'justdub[face]'"


@lru_cache(maxsize=1)
def identity() -> str:
    """Who finds the faces, for the keys of kept features."""
    try:
        return f"mediapipe {version('mediapipe')}"
    except PackageNotFoundError:
        return "none"


def require() -> None:
    """Raises MissingError where mediapipe is not installed."""
    if identity() == "none":
        raise MissingError("needs mediapipe", remedy=_REMEDY)


def landmarks(clip: Clip) -> np.ndarray:
    """float32 (F, 478, 2) in pixels of `clip.size`; NaN in frames without a face.

    Raises:
        MissingError: mediapipe with its own models is not installed.
        BadInputError: no face in most of the frames.
    """
    require()
    found = clip.picture_feature("faces", lambda: {"points": _find(clip)}, identity(), clip.longest)["points"]
    share = float(np.isfinite(found[:, 0, 0]).mean()) if len(found) else 0.0
    if share < SEEN:
        raise BadInputError(f"{clip.path.name}: no face in {100 * (1 - share):.0f} % of its frames")
    return found


def _find(clip: Clip) -> np.ndarray:
    with silent():
        return _find_loudly(clip)


def _find_loudly(clip: Clip) -> np.ndarray:
    import mediapipe

    if not hasattr(mediapipe, "solutions"):
        raise MissingError(f"{identity()} comes without its models", remedy="pip install mediapipe==0.10.21")
    solutions = mediapipe.solutions
    mesh_settings = {"max_num_faces": 1, "refine_landmarks": True}
    with (
        solutions.face_mesh.FaceMesh(static_image_mode=False, **mesh_settings) as tracker,
        solutions.face_mesh.FaceMesh(static_image_mode=True, **mesh_settings) as still,
        solutions.face_detection.FaceDetection(model_selection=1) as detector,
    ):
        points = [_points(frame, tracker, still, detector) for chunk in clip.frames() for frame in chunk]
    return np.stack(points) if points else np.zeros((0, LANDMARKS, 2), np.float32)


def _points(frame_HW3: np.ndarray, tracker, still, detector) -> np.ndarray:
    """(478, 2), from the whole frame or, for a small face, from a cut-out around what the detector finds."""
    height, width, _ = frame_HW3.shape
    found = _mesh(tracker, frame_HW3)
    if found is not None:
        return found * (width, height)
    boxes = detector.process(frame_HW3).detections
    if not boxes:
        return np.full((LANDMARKS, 2), np.nan, np.float32)
    box = max((one.location_data.relative_bounding_box for one in boxes), key=lambda b: b.width * b.height)
    side = _CROP * max(box.width * width, box.height * height)
    left = (box.xmin + box.width / 2) * width - side / 2
    top = (box.ymin + box.height / 2) * height - side / 2
    found = _mesh(still, cut(frame_HW3, (left, top, side), _SIDE))
    if found is None:
        return np.full((LANDMARKS, 2), np.nan, np.float32)
    return (found * side + (left, top)).astype(np.float32)


def _mesh(mesh, picture_HW3: np.ndarray) -> np.ndarray | None:
    faces = mesh.process(np.ascontiguousarray(picture_HW3)).multi_face_landmarks
    if not faces:
        return None
    return np.array([(point.x, point.y) for point in faces[0].landmark], np.float32)


def cut(frame_HW3: np.ndarray, square: tuple[float, float, float], side: int) -> np.ndarray:
    """The square (left, top, side in pixels) as uint8 (side, side, 3); grey beyond the frame's edge."""
    from PIL import Image

    left, top, length = square
    picture = Image.fromarray(np.ascontiguousarray(frame_HW3))
    step = length / side
    return np.asarray(
        picture.transform(
            (side, side), Image.Transform.AFFINE, (step, 0, left, 0, step, top), Image.Resampling.BILINEAR,
            fillcolor=(110, 110, 110),
        )
    )  # fmt: skip


def filled(points_FL2: np.ndarray) -> np.ndarray:
    """With frames without a face taken from the nearest one with a face."""
    seen = np.flatnonzero(np.isfinite(points_FL2[:, 0, 0]))
    nearest = seen[np.abs(np.arange(len(points_FL2))[:, None] - seen[None]).argmin(1)]
    return points_FL2[nearest]


def regions(sample: Sample) -> np.ndarray:
    """(F, K, 2) outline of the source's face in every frame, a little enlarged, in pixels of `source.size`."""
    outline = filled(landmarks(sample.source))[:, OUTLINE]
    middle = outline.mean(1, keepdims=True)
    return middle + MARGIN * (outline - middle)
