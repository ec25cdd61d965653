"""The table of families: a name in the configuration, a class that scores."""

from detector.models.contract import Arrays, Family
from detector.models.gan import Gan
from detector.models.gmm import Gmm
from detector.models.hmm import Hmm
from detector.models.naive_bayes import NaiveBayes
from detector.models.rbm import Rbm
from detector.models.vae import Vae

FAMILIES: dict[str, type[Family]] = {
    "gmm": Gmm,
    "hmm": Hmm,
    "naive_bayes": NaiveBayes,
    "vae": Vae,
    "rbm": Rbm,
    "gan": Gan,
}


def family_from_arrays(name: str, arrays: Arrays) -> Family:
    """Rebuild the family called ``name``.

    Raises:
        ValueError: There is no such family, or the arrays do not fit it.
    """
    if name not in FAMILIES:
        raise ValueError(f"no family is called {name!r}; this version knows {', '.join(FAMILIES)}")
    return FAMILIES[name].from_arrays(arrays)
