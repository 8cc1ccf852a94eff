"""A model that compiles in a second: two convolutions with batch norm and dropout, three learning-rate groups."""

from flax import linen as nn

from ecgjax.models.encoder import Encoder, Features, ModelSpec


class Tiny(nn.Module):
    width: int
    dropout: float

    @nn.compact
    def __call__(self, x, train):
        x = nn.Conv(self.width, (5,), 2, name="stem")(x)
        x = nn.relu(nn.BatchNorm(not train, name="norm")(x))
        x = nn.relu(nn.Conv(self.width, (5,), 2, name="body")(nn.Dropout(self.dropout)(x, deterministic=not train)))
        return Features(x, x.mean(1), {})


def create(width: int = 16, seconds: float = 2.5, dropout: float = 0.1) -> Encoder:
    spec = ModelSpec(
        name="tiny",
        sampling_rate=50.0,
        seconds=seconds,
        channels=width,
        family="convolutional",
        reference="none",
        licence="none",
        lr_groups=(("head", ("head/",)), ("late", ("encoder/body/",)), ("early", ("encoder/stem/", "encoder/norm/"))),
    )
    return Encoder(spec, Tiny(width, dropout), {"width": width, "seconds": seconds, "dropout": dropout})
