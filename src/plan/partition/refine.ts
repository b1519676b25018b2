/** @file Local search over cuts: for placements whose stages share ranks, where the simulator alone knows what a cut is worth. */

export interface Refined<T> {
	readonly bounds: readonly (readonly number[])[];
	readonly value: T;
}

/**
 * Moves the bounds of each chain (0, cuts, layers) a layer or two at a time, one cut or two cuts in opposite directions, as long as `better` says that what
 * `evaluate` gives got better. At most `limit` evaluations; the start is the first. Every stage keeps a layer.
 */
export function refineCuts<T>(
	start: readonly (readonly number[])[],
	evaluate: (bounds: readonly (readonly number[])[]) => T,
	better: (a: T, b: T) => boolean,
	limit: number,
): Refined<T> {
	let best: Refined<T> = { bounds: start, value: evaluate(start) };
	let left = limit - 1;
	const seen = new Set([start.join(';')]);
	for (let improved = true; improved && left > 0; ) {
		improved = false;
		for (const bounds of neighbours(best.bounds)) {
			const key = bounds.join(';');
			if (seen.has(key)) continue;
			seen.add(key);
			const value = evaluate(bounds);
			if (better(value, best.value)) {
				best = { bounds, value };
				improved = true;
				break;
			}
			if (--left <= 0) break;
		}
	}
	return best;
}

type Cut = readonly [chain: number, index: number];

function* neighbours(bounds: readonly (readonly number[])[]): Generator<readonly (readonly number[])[]> {
	const cuts = bounds.flatMap((chain, c) => chain.slice(1, -1).map((_, i): Cut => [c, i + 1]));
	for (const cut of cuts) {
		for (const by of [1, -1, 2, -2]) {
			const moved = move(bounds, cut, by);
			if (moved) yield moved;
		}
	}
	for (const [i, first] of cuts.entries()) {
		for (const second of cuts.slice(i + 1)) {
			for (const by of [1, -1]) {
				for (const other of [by, -by]) {
					const one = move(bounds, first, by);
					const two = one && move(one, second, other);
					if (two) yield two;
				}
			}
		}
	}
}

function move(bounds: readonly (readonly number[])[], [chain, index]: Cut, by: number): readonly (readonly number[])[] | undefined {
	const old = bounds[chain]!;
	const at = old[index]! + by;
	if (at <= old[index - 1]! || at >= old[index + 1]!) return undefined;
	return bounds.map((b, c) => (c === chain ? b.with(index, at) : b));
}
