"""What each process of the storage's race does. Imports little: every process starts afresh."""

from multiprocessing.synchronize import Barrier

from tangentscope.pipeline.store.files import Storage

NAMES = 40


def create_all(place: str, who: int, barrier: Barrier) -> list[int]:
    """The names this process won."""
    storage = Storage.at(place)
    won = []
    for name in range(NAMES):
        barrier.wait(60)
        if storage.create(f"claims/{name}", f"{who}".encode() * 1000):
            won.append(name)
    return won
