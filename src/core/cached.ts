/** @file A value kept from the first time it is asked for. */

/** The value of `key`, made by `make` when the map has none yet; `undefined` is a value like any other. */
export function cached<K, V>(map: Map<K, V>, key: K, make: () => V): V {
	const known = map.get(key);
	if (known !== undefined || map.has(key)) return known as V;
	const value = make();
	map.set(key, value);
	return value;
}
