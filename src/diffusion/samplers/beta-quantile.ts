/** @file Quantiles of the symmetric beta distribution, for the spacing of `use_beta_sigmas`. */

/** The x below which a beta(a, a) variable is with probability `p`, for `a` of the order of 1. */
export function symmetricBetaQuantile(p: number, a: number): number {
	if (p <= 0) return 0;
	if (p >= 1) return 1;
	if (p > 0.5) return 1 - symmetricBetaQuantile(1 - p, a);
	// By symmetry half of the mass lies below 1/2, which saves computing the beta function.
	const mass = p * 2 * massBelow(0.5, a);
	let low = 0;
	let high = 0.5;
	for (;;) {
		const middle = (low + high) / 2;
		if (middle === low || middle === high) return middle;
		if (massBelow(middle, a) < mass) low = middle;
		else high = middle;
	}
}

/** The integral of (t (1 - t))^(a-1) from 0 to x <= 1/2: the incomplete beta function's continued fraction (DLMF 8.17.22). */
function massBelow(x: number, a: number): number {
	let fraction = 1;
	for (let m = 30; m >= 0; m--) {
		const even = m === 0 ? 0 : (m * (a - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
		const odd = (-(a + m) * (2 * a + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
		fraction = 1 + odd / fraction;
		if (m > 0) fraction = 1 + even / fraction;
	}
	return (x * (1 - x)) ** a / (a * fraction);
}
