"""What Ray Train starts beside our workers."""

from ray.train.torch import TorchTrainer

from tangentscope.pipeline.cluster.controller import Trainer


def _names(trainer: type[TorchTrainer]) -> set[str]:
    return {type(each).__name__ for each in trainer(lambda: None)._create_default_callbacks()}


def test_nothing_is_started_for_what_is_not_used():
    assert _names(TorchTrainer) - _names(Trainer) == {"DatasetsCallback", "PlacementGroupCleanerCallback"}
