"""Feature variables by their definitions, as integral operators [n, n] on samples, in numpy and float64.

φ [n, p] and φ_te [m, p] are features of the training and of the held-out points; functions are vectors of their values,
and inner products means over points.
"""

import numpy as np


def projection(functions: np.ndarray) -> np.ndarray:
    """[m, m], onto the span of the columns of [m, functions]."""
    return functions @ np.linalg.pinv(functions, rcond=1e-9)


def eigenfunctions(φ: np.ndarray, φ_te: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ρ_k, those above rounding, and e_k [m, k]: T's eigenvectors on the training points, carried over by Nyström."""
    n = len(φ)
    ρ, vectors = np.linalg.eigh(φ @ φ.T / n)
    order = np.argsort(ρ)[::-1]
    ρ, vectors = ρ[order], vectors[:, order]
    kept = ρ > 1e-12 * ρ[0]
    e = np.sqrt(n) * vectors[:, kept]
    return ρ[kept], φ_te @ φ.T @ e / n / ρ[kept]  # T[e_k](x)/ρ_k


def overlaps(e: np.ndarray, P: np.ndarray, dim: int) -> np.ndarray:
    """⟨e_k|P[e_k]⟩/dim, by the empirical norms of e_k (eq. 1.34, 2.3, 2.5 without its square)."""
    return np.array([g @ P @ g / (g @ g) for g in e.T]) / dim


def expressed(e: np.ndarray, P: np.ndarray, dim: int) -> np.ndarray:
    """Share of the space of P that is in the span of the first k eigenfunctions, for every k."""
    return np.array([np.trace(projection(e[:, : k + 1]) @ P) for k in range(e.shape[1])]) / dim


def cka(A: np.ndarray, B: np.ndarray) -> float:
    """Eq. 2.9, of operators [m, m]."""
    m = len(A)
    centring = np.eye(m) - np.ones((m, m)) / m
    A, B = centring @ A @ centring, centring @ B @ centring
    return float(np.trace(A @ B) / np.linalg.norm(A) / np.linalg.norm(B))


def effective_dimension(v: np.ndarray) -> float:
    """Eq. 1.16."""
    p = v[v > 0] / v.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def neural_collapse(φ: np.ndarray, classes: np.ndarray, W: np.ndarray, outputs: np.ndarray) -> dict[str, float]:
    """Eq. D.2-D.9 with the classes' own numbers of points."""
    C, n = len(W), len(φ)
    μ = np.stack([φ[classes == i].mean(0) for i in range(C)])
    μ_g = μ.mean(0)
    Σ_W = sum(np.outer(φ[j] - μ[classes[j]], φ[j] - μ[classes[j]]) for j in range(n)) / n
    Σ_b = sum(np.outer(one - μ_g, one - μ_g) for one in μ) / C
    unit = [(one - μ_g) / np.linalg.norm(one - μ_g) for one in μ]
    cosines = [abs(unit[i] @ unit[j] + 1 / (C - 1)) for i in range(C) for j in range(C) if i != j]
    nearest = np.array([np.argmin([np.linalg.norm(x - one) for one in μ]) for x in φ])
    return {
        "nc1_norm": float(np.linalg.norm(Σ_W @ Σ_b.T)),
        "nc1_trace": float(np.trace(Σ_W @ np.linalg.pinv(Σ_b, rcond=1e-10)) / C),
        "nc2": float(np.mean(cosines)),
        "nc3": float(np.mean([np.linalg.norm(w / np.linalg.norm(w) - u) for w, u in zip(W, unit, strict=True)])),
        "nc4": float(np.mean(nearest != outputs.argmax(1))),
    }
