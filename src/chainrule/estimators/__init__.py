"""scikit-learn estimators on chainrule's networks and its `fit`.

They take scikit-learn's parameters and leave its attributes, and give what its own lack: weights of
classes, dropout, batch normalisation, an activation a layer, every optimiser, schedules, clipping,
losses of one's own, a validation loss curve, callbacks, calibration, and a gradient's derivation.
"""

try:
    import sklearn as _  # noqa: F401
except ModuleNotFoundError:
    raise ImportError(
        "chainrule.estimators needs scikit-learn: pip install 'chainrule[sklearn]'"
    ) from None

from .classifier import MLPClassifier
from .regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
