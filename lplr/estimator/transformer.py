"""The scikit-learn transformer: truncated SVD whose factors are stored in few bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from lplr.algorithms.factorize import factorize
from lplr.estimator.data import DTYPES, checked_data, projected, refusing
from lplr.estimator.description import LONG, Spread, error_and_spread, singular_pairs
from lplr.estimator.growing import Growing
from lplr.estimator.model import Model, rng_of
from lplr.exceptions import InputError
from lplr.linalg.input_operators import as_matrix
from lplr.linalg.operators import InputOperator, multiply
from lplr.matrices.low_rank import LowRank
from lplr.parallel import matmul, reproducible
from lplr.progress import tracked, until
from lplr.sources import Source, open_source
from lplr.streaming.limits import memory_bytes
from lplr.streaming.moments import FirstPass
from lplr.validation.arguments import check_integer

__all__ = ["LPLR"]


class LPLR(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Growing, Model):
    """Low-rank, low-precision dimensionality reduction.

    ``fit`` factors X ~ L R with both factors quantized and bit-packed; ``transform`` projects
    rows, seen or new, onto the row space of the quantized R. Used like
    `sklearn.decomposition.TruncatedSVD`; data are not centred, and sparse ones stay sparse.

    Parameters
    ----------
    n_components : int, optional
        Rank of the factorization, from 1 to min(n_samples, n_features). By default what
        ``bits_per_entry`` buys or, without it, min(n_samples, n_features).
    bits : int or (int, int), optional
        Bits per entry of L and of R; 4 by default.
    bits_per_entry : float, optional
        Stored bits over n_samples * n_features, instead of ``n_components``.
    method : {"feedback", "lplr", "lplr-svd", "direct-svd"}
    sketch : {"gaussian", "rademacher", "srht", "sparse-sign"}
    n_oversamples : int, optional
    n_power_iter : int, optional
    quantizer : str or (str, str), optional
    effort : {"fast", "default", "best"}
        These six as in `lplr.factorize`.
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None
        An int makes ``fit`` reproducible and is the ``rng`` of `lplr.factorize`. None draws from
        the operating system; the global NumPy state is neither read nor changed.
    verbose : bool
        Whether ``fit`` shows how far it is, as ``progress=True`` does elsewhere.
    memory_limit : int or str, optional
        As in `lplr.factorize`: bytes that ``fit`` may take, for data that are read in blocks of
        rows. It is no part of the model, and `lplr.save` leaves it out.

    Attributes
    ----------
    factors_ : LowRank of shape (n_samples, n_features)
        The training data, compressed: a SciPy linear operator, stored by `lplr.save`.
    components_ : ndarray of shape (n_components_, n_features), of the dtype of X
        Orthonormal basis of the row space of the quantized R: the right singular vectors of L R.
        Where the product has a lower rank, the basis is completed arbitrarily.
    singular_values_ : ndarray of shape (n_components_,), of the dtype of X
        Singular values of the product L R, descending.
    explained_variance_ : ndarray of shape (n_components_,), of the dtype of X
        Variance of each column of the transformed training data; float64 where float32 does not
        hold squares of X.
    explained_variance_ratio_ : ndarray of shape (n_components_,), of the dtype of X
        The same over the sum of the variances of the columns of X; 0 where that is 0.
    reconstruction_err_ : float
        Frobenius norm of the training data minus L R.
    n_components_ : int
        Rank of the factorization.
    n_samples_seen_ : int
        Rows that were fitted to, in all calls of ``partial_fit``.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only if X has feature names that are all strings.

    Raises
    ------
    InputError
        By ``fit``, if a parameter or X is outside what is offered; it is a ValueError.

    See Also
    --------
    lplr.factorize : the factorization alone.

    Notes
    -----
    With an orthonormal basis ``X @ components_.T`` solves ``argmin_Z |X - Z R|`` up to a change of
    coordinates, so that Z does not depend on how the factorization split the scale between L and
    R. ``fit_transform(X)`` equals ``fit(X).transform(X)``: it projects X itself and is at least
    as close to it as ``factors_``, whose L is quantized as well.

    Variances are those of `sklearn.decomposition.TruncatedSVD`, about the means of the transformed
    data and divided by n_samples. For centred X the ratios are also those of
    `sklearn.decomposition.PCA`, which divides variances by n_samples - 1.

    Of sparse matrices and linear operators only products are taken, see `lplr.factorize`. The
    error and the explained variance of an operator need its norm, and so as many products with
    vectors as its shorter side is long.

    Files and arrays that need not be in memory are read in blocks of rows, twice by the method
    "feedback" and once more where its error is below 1 %, which has to be measured. Their
    attributes are float64 where the data are float64, else float32. ``partial_fit`` takes rows
    that come in batches and are not kept; it says what ``factors_`` is then.

    `lplr.save` and `lplr.load` store a fitted model without pickle: its parameters and attributes.

    Examples
    --------
    >>> import lplr
    >>> X = lplr.datasets.synthetic(200, 50, "power", exponent=1.0, rng=0)
    >>> model = lplr.LPLR(n_components=10, bits=4, random_state=0).fit(X)
    >>> model.transform(X[:3]).shape
    (3, 10)
    >>> model.inverse_transform(model.transform(X[:3])).shape
    (3, 50)
    >>> model.factors_.nbytes < X.nbytes / 60
    True
    >>> bool(model.explained_variance_ratio_.sum() > 0.9)
    True

    Texts, each a sparse row of weighted words:

    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> texts = [getattr(lplr, name).__doc__ for name in lplr.__all__ if name != "__version__"]
    >>> X = TfidfVectorizer(stop_words="english").fit_transform(texts)
    >>> Z = lplr.LPLR(n_components=8, bits=16, random_state=0).fit_transform(X)
    >>> Z.shape == (len(texts), 8)
    True
    """

    encoding: ClassVar[tuple[str, int]] = ("lplr-model", 1)
    _fitted: ClassVar[Mapping[str, type | tuple[type, ...]]] = {
        "factors_": LowRank,
        "components_": np.ndarray,
        "singular_values_": np.ndarray,
        "explained_variance_": np.ndarray,
        "explained_variance_ratio_": np.ndarray,
        "reconstruction_err_": (int, float),
    }

    def __init__(
        self,
        n_components: int | None = None,
        *,
        bits: int | tuple[int, int] | None = None,
        bits_per_entry: float | None = None,
        method: str = "feedback",
        sketch: str = "gaussian",
        n_oversamples: int | None = None,
        n_power_iter: int | None = None,
        quantizer: str | tuple[str, str] | None = None,
        effort: str = "default",
        random_state: Any = None,
        verbose: bool = False,
        memory_limit: int | str | None = None,
    ) -> None:
        self.n_components = n_components
        self.bits = bits
        self.bits_per_entry = bits_per_entry
        self.method = method
        self.sketch = sketch
        self.n_oversamples = n_oversamples
        self.n_power_iter = n_power_iter
        self.quantizer = quantizer
        self.effort = effort
        self.random_state = random_state
        self.verbose = verbose
        self.memory_limit = memory_limit

    @reproducible()
    def fit(self, X: Any, y: Any = None) -> Self:
        """Factor the training data.

        Parameters
        ----------
        X : array_like, sparse matrix or linear operator of shape (n_samples, n_features)
            Or what `lplr.sources.open_source` opens, as in the other methods.
        y : None
            Ignored.

        Returns
        -------
        LPLR
            The transformer itself.

        Raises
        ------
        InputError
            If a parameter or X is outside what is offered.
        """
        X = self._matrix(X, reset=True)
        limit = self.memory_limit
        in_passes = isinstance(X, Source) or limit is not None
        if in_passes and not isinstance(X, InputOperator):
            X = open_source(X, "X")
            limit = memory_bytes(limit)
        first = FirstPass(X if isinstance(X, Source) else as_matrix(X, "X"))
        with tracked(bool(self.verbose), "fit"):
            with until(0.9):
                factors = self._factors(first, self._rank(X.shape), limit)
            singular = singular_pairs(factors, len(X) if isinstance(X, np.ndarray) else LONG)
            dtype = X.row_dtype if isinstance(X, Source) else X.dtype
            V = singular[1].astype(dtype)
            error, spread = error_and_spread(X, factors, V, first, limit)
            self._describe(factors, singular, error, spread, dtype)
        self.__dict__.pop("_seen", None)
        return self

    def _factors(self, first: FirstPass, rank: int | None, limit: int | str | None) -> LowRank:
        return factorize(
            first,
            rank=rank,
            bits=self.bits,
            bits_per_entry=self.bits_per_entry,
            method=self.method,
            sketch=self.sketch,
            n_oversamples=self.n_oversamples,
            n_power_iter=self.n_power_iter,
            quantizer=self.quantizer,
            effort=self.effort,
            rng=rng_of(self.random_state),
            memory_limit=limit,
        )

    def _matrix(self, X: Any, *, reset: bool) -> Any:
        return checked_data(self, X, self.memory_limit, reset=reset)

    def _describe(
        self,
        factors: LowRank,
        singular: tuple[np.ndarray, np.ndarray],
        error: float,
        spread: Spread,
        dtype: np.dtype,
    ) -> None:
        """Set what is known after fitting."""
        s, Vt = singular
        self.factors_ = factors
        self.components_ = Vt.astype(dtype)
        self.singular_values_ = s.astype(dtype)
        self.reconstruction_err_ = error * spread.norm
        variance = spread.variance
        self.explained_variance_ = _narrowed(variance, dtype)
        ratio = variance / spread.total if spread.total > 0 else np.zeros_like(variance)
        self.explained_variance_ratio_ = ratio.astype(dtype)

    def transform(self, X: Any) -> np.ndarray:
        """Coordinates of the projection of each row onto the row space of R.

        Parameters
        ----------
        X : array_like, sparse matrix or linear operator of shape (n_samples, n_features)
            Of a source above the limit of memory a block of rows is read at a time.

        Returns
        -------
        ndarray of shape (n_samples, n_components_), float32 for float32 X, else float64
        """
        check_is_fitted(self, "components_")
        X = self._matrix(X, reset=False)
        if isinstance(X, Source):
            return projected(X, self.components_)
        return multiply(X, self.components_.T.astype(X.dtype, copy=False))

    def fit_transform(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, then transform the same data.

        Parameters
        ----------
        X : array_like, sparse matrix or linear operator of shape (n_samples, n_features)
        y : None
            Ignored.

        Returns
        -------
        ndarray of shape (n_samples, n_components_)
        """
        return self.fit(X).transform(X)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Rows of the original space with the given coordinates.

        Parameters
        ----------
        X : array_like of shape (n_samples, n_components_)

        Returns
        -------
        ndarray of shape (n_samples, n_features), float32 for float32 X, else float64
        """
        check_is_fitted(self)
        with refusing("X"):
            Z = check_array(X, dtype=DTYPES)
        if Z.shape[1] != self.n_components_:
            raise InputError(
                f"X: must have n_components_={self.n_components_} columns, found {Z.shape[1]}"
            )
        return matmul(Z, self.components_.astype(Z.dtype, copy=False))

    @property
    def n_components_(self) -> int:
        """Rank of the factorization."""
        check_is_fitted(self, "factors_")
        return int(self.factors_.rank)

    @property
    def _n_features_out(self) -> int:
        """What `ClassNamePrefixFeaturesOutMixin` counts."""
        return self.n_components_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _state(self) -> dict[str, Any]:
        state = super()._state()
        del state["params"]["memory_limit"]  # it belongs to the machine
        return state

    def _check_fitted(self) -> None:
        k, d = self.n_components_, self.n_features_in_
        shapes = {
            "components_": (k, d),
            "singular_values_": (k,),
            "explained_variance_": (k,),
            "explained_variance_ratio_": (k,),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.dtype.kind != "f" or array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"{name} must be {shape} finite floats")
        if self.factors_.shape[1] != d:
            raise ValueError(f"factors_ must have {d} columns")

    def _rank(self, shape: tuple[int, int]) -> int | None:
        if self.n_components is None:
            return min(shape) if self.bits_per_entry is None else None
        if self.bits_per_entry is not None:
            raise InputError(
                "n_components, bits_per_entry: give one of the two, "
                f"found {self.n_components!r} and {self.bits_per_entry!r}"
            )
        return check_integer(self.n_components, "n_components", 1, min(shape))


def _narrowed(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The same numbers in a dtype, if it holds the largest one."""
    largest, limits = x.max(), np.finfo(dtype)
    return x.astype(dtype) if largest == 0 or limits.tiny <= largest <= limits.max else x
