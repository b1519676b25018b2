/** @file Time axes: round marks at a distance that can be read. */

/** Multiples of 1, 2 or 5 times a power of ten within [from, to], at least `(to - from) / most` apart. None when the stretch is empty. */
export function ticksOf(from: number, to: number, most: number): number[] {
	if (!(to > from) || most < 1) return [];
	const step = roundUp((to - from) / most);
	const first = Math.ceil(from / step - 1e-9);
	const last = Math.floor(to / step + 1e-9);
	return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/** The least of 1, 2, 5, 10, ... times a power of ten that is not below `value`. */
function roundUp(value: number): number {
	const power = 10 ** Math.floor(Math.log10(value));
	return power * [1, 2, 5, 10].find((m) => m * power >= value * (1 - 1e-9))!;
}
