/** @file Rows that a frozen part computes, kept in memory by what determines them: it gives the same for the same input every epoch. */

/** Rows by key; those not kept yet are computed. Rows are the cache's: they are not to be changed. */
export type RowCache = (
	keys: readonly string[],
	/** Computes the rows of the keys at these places in `keys`, no key twice. */
	compute: (places: readonly number[]) => Promise<readonly Float32Array[]>,
) => Promise<readonly Float32Array[]>;

/** A cache of up to `bytes`. When it is full the rows that are in it stay, since epochs ask for all rows in turn, and others are computed each time. */
export function rowCache(bytes: number): RowCache {
	const kept = new Map<string, Float32Array>();
	let left = bytes;
	return async (keys, compute) => {
		const rows = new Map<string, Float32Array>();
		const missing = new Map<string, number>();
		keys.forEach((key, place) => {
			const row = kept.get(key);
			if (row) rows.set(key, row);
			else if (!missing.has(key)) missing.set(key, place);
		});
		if (missing.size > 0) {
			const computed = await compute([...missing.values()]);
			[...missing.keys()].forEach((key, i) => {
				const row = computed[i]!;
				rows.set(key, row);
				if (row.byteLength > left) return;
				left -= row.byteLength;
				// A row may be a view of a whole batch, which would be kept alive with it.
				kept.set(key, row.slice());
			});
		}
		return keys.map((key) => rows.get(key)!);
	};
}
