/** @file The error function in float64, which JavaScript lacks. */

/** erf(x) to about 1e-15. */
export function erf(x: number): number {
	return Math.abs(x) < 2.5 ? series(x) : 1 - erfc(x);
}

/** erfc(x) = 1 - erf(x), keeping its relative precision for large x. */
export function erfc(x: number): number {
	if (x < 2.5) return x <= -2.5 ? 2 - fraction(-x) : 1 - series(x);
	return fraction(x);
}

/** Phi(x), the distribution function of the standard normal. */
export function normalCdf(x: number): number {
	return 0.5 * erfc(-x * Math.SQRT1_2);
}

/** erf by Abramowitz and Stegun 7.1.6, whose terms all have the sign of x. */
function series(x: number): number {
	let term = x;
	let sum = x;
	for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
		term *= (2 * x * x) / (2 * n + 1);
		sum += term;
	}
	return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** erfc by the continued fraction of Abramowitz and Stegun 7.1.14, for x of at least 2.5. */
function fraction(x: number): number {
	let tail = x;
	for (let n = 60; n >= 1; n--) tail = x + n / 2 / tail;
	return Math.exp(-x * x) / Math.sqrt(Math.PI) / tail;
}
