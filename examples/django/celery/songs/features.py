"""Measures and groups songs. The numbers come from the title alone, so that the example needs no
audio files."""

import hashlib

GROUPS = 3
ROUNDS = 10


def measure(title: str) -> tuple[float, float]:
    """The tempo in beats a minute, and the loudness from 0 to 1."""
    digest = hashlib.sha256(title.encode()).digest()
    return 60 + digest[0] / 255 * 120, digest[1] / 255


def cluster(points: list[tuple[float, float]]) -> list[int]:
    """The number of the group of each point, by k-means."""
    scaled = [(tempo / 180, loudness) for tempo, loudness in points]
    centers = sorted(set(scaled))[:GROUPS]
    groups = [0] * len(scaled)
    for _ in range(ROUNDS):
        groups = [_nearest(point, centers) for point in scaled]
        for number in range(len(centers)):
            members = [
                point for point, group in zip(scaled, groups, strict=True) if group == number
            ]
            if members:
                x, y = zip(*members, strict=True)
                centers[number] = (sum(x) / len(x), sum(y) / len(y))
    return groups


def _nearest(point: tuple[float, float], centers: list[tuple[float, float]]) -> int:
    distances = [(point[0] - x) ** 2 + (point[1] - y) ** 2 for x, y in centers]
    return distances.index(min(distances))
