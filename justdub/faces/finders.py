"""Who finds the face and its lips in frames: mediapipe or insightface (of drawn faces: `datagen.world.finder`).

All answer the same: outlines of the lips and of the lower face, in pixels, frame by frame.

Legend: F frames, H/W height/width, K corners of an outline, 2 x and y in pixels, L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from justdub.errors import BadInputError, MissingError, UsageError

_CORNERS = 16  # of a hull


@dataclass(frozen=True)
class Face:
    """lips_FK2, lower_FK2: outlines of the lips and of mouth, chin and jaw, NaN in frames without a face. faces: the
    most that are seen at once in a fifth of the frames."""

    lips_FK2: np.ndarray
    lower_FK2: np.ndarray
    faces: int = 1

    @property
    def seen(self) -> float:
        """Share of the frames with a face."""
        return float(np.isfinite(self.lips_FK2[:, 0, 0]).mean()) if len(self.lips_FK2) else 0.0


class Finder(Protocol):
    """Finds faces."""

    def find(self, frames_FHW3: np.ndarray) -> Face:
        """uint8 RGB frames of one clip."""


def open_finder(name: str, models: str = "") -> Finder:
    """The finder of that name.

    Args:
        models: a mediapipe .task file, or the folder of insightface's models.

    Raises:
        MissingError: a package or a model that it needs is not there.
    """
    if name == "mediapipe":
        return MediapipeFinder(models)
    if name == "insightface":
        return InsightFinder(models)
    raise UsageError(f"finder {name!r}", expected="mediapipe or insightface")


# mediapipe's face mesh: around the lips once; from one jaw angle over the chin to the other and below the nose back.
_LIPS = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146)
_LOWER = (
    132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 425, 327, 2, 98, 205,
)  # fmt: skip


class MediapipeFinder:
    """mediapipe's face mesh: the models in its 0.10.21 wheel, or a user's .task file with newer versions."""

    def __init__(self, task: str = "") -> None:
        try:
            import mediapipe
        except ImportError as error:
            raise MissingError("finding faces needs mediapipe", remedy="pip install 'justdub[face]'") from error
        self._task = Path(task).expanduser() if task else None
        if self._task is not None and not self._task.is_file():
            raise MissingError(f"no model at {task}", expected="a face landmarker .task file")
        if self._task is None and not hasattr(mediapipe, "solutions"):
            raise MissingError(
                "this mediapipe comes without its models", expected="0.10.21, or models: FILE.task",
                remedy="pip install 'justdub[face]'",
            )  # fmt: skip

    def find(self, frames_FHW3: np.ndarray) -> Face:
        from justdub.faces.quiet import silent

        with silent():
            found = self._by_task(frames_FHW3) if self._task else self._by_mesh(frames_FHW3)
        height, width = frames_FHW3.shape[1:3]
        points_FL2 = np.stack(
            [faces[0] if faces else np.full((478, 2), np.nan, np.float32) for faces in found]
        ) * np.float32((width, height))
        counts = np.sort([len(faces) for faces in found])[::-1]
        most = int(counts[len(counts) // 5]) if len(counts) else 0
        return Face(points_FL2[:, _LIPS], points_FL2[:, _LOWER], most)

    def _by_mesh(self, frames_FHW3: np.ndarray) -> list[list[np.ndarray]]:
        import mediapipe

        settings = {"static_image_mode": False, "max_num_faces": 2, "refine_landmarks": True}
        with mediapipe.solutions.face_mesh.FaceMesh(**settings) as mesh:
            results = [mesh.process(np.ascontiguousarray(frame)).multi_face_landmarks or () for frame in frames_FHW3]
        return [[_points(face.landmark) for face in faces] for faces in results]

    def _by_task(self, frames_FHW3: np.ndarray) -> list[list[np.ndarray]]:
        import mediapipe
        from mediapipe.tasks import python as tasks
        from mediapipe.tasks.python import vision

        options = vision.FaceLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_path=str(self._task)), num_faces=2
        )
        try:
            landmarker = vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise BadInputError(f"{self._task} is no face landmarker: {str(error).splitlines()[0]}") from error
        with landmarker:
            results = [
                landmarker.detect(
                    mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(frame))
                ).face_landmarks
                for frame in frames_FHW3
            ]
        return [[_points(face) for face in faces] for faces in results]


def _points(landmarks) -> np.ndarray:
    return np.array([(point.x, point.y) for point in landmarks], np.float32)[:478]


class InsightFinder:
    """insightface's 106 landmarks, models from a user's folder (`FOLDER/models/NAME/*.onnx`)."""

    def __init__(self, folder: str) -> None:
        root = Path(folder).expanduser()
        if not folder or not root.is_dir():
            raise MissingError(f"no insightface models at {folder or '(nowhere)'}", expected="mask.models: FOLDER")
        try:
            from insightface.app import FaceAnalysis
        except ImportError as error:
            raise MissingError("needs insightface", remedy="pip install 'justdub[identity]'") from error
        packs = [path.name for path in sorted((root / "models").glob("*")) if any(path.glob("*.onnx"))]
        if not packs:
            raise MissingError(f"{root}/models holds no .onnx models", expected="detection and 2d106det")
        self._app = FaceAnalysis(name=packs[0], root=str(root), allowed_modules=["detection", "landmark_2d_106"])
        self._app.prepare(ctx_id=-1)

    def find(self, frames_FHW3: np.ndarray) -> Face:
        lips, lower, counts = [], [], []
        for frame in frames_FHW3:
            faces = sorted(self._app.get(frame[..., ::-1]), key=lambda face: -np.ptp(face.bbox[[0, 2]]))
            counts.append(len(faces))
            points = faces[0].landmark_2d_106 if faces else np.full((106, 2), np.nan)
            mouth, jaw = points[52:72], points[1:33]  # insightface's order: 0 is the chin, 1..32 the outline
            lips.append(_around(mouth))
            low = jaw[jaw[:, 1] > mouth[:, 1].min()] if faces else jaw
            lower.append(_around(np.concatenate((mouth, low))))
        most = int(np.sort(counts)[::-1][len(counts) // 5]) if counts else 0
        return Face(np.stack(lips), np.stack(lower), most)


def _around(points_L2: np.ndarray) -> np.ndarray:
    """The convex hull of points as `_CORNERS` corners: for every direction the farthest point."""
    angle_K = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    direction_K2 = np.stack((np.cos(angle_K), np.sin(angle_K)), -1)
    if not np.isfinite(points_L2).all():
        return np.full((_CORNERS, 2), np.nan, np.float32)
    return points_L2[(points_L2 @ direction_K2.T).argmax(0)].astype(np.float32)
