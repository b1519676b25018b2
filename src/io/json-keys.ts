/** @file What JSON.parse hides of an object: a key given twice (it takes the last) and the order of keys that look like numbers (it moves them first). */

/**
 * Scans a JSON text for the keys of its objects, escapes resolved. `json` must be valid JSON.
 * @returns the keys of the outermost object in their order, and the first key that one object holds twice
 */
export function jsonKeys(json: string): { top: string[]; duplicate: string | undefined } {
	const top: string[] = [];
	/** One entry per open bracket: the keys of an object, undefined for an array. */
	const open: (Set<string> | undefined)[] = [];
	let keys: Set<string> | undefined;
	let expectKey = false;
	for (let i = 0; i < json.length; i++) {
		const c = json[i];
		if (c === '"') {
			const end = endOfString(json, i);
			if (expectKey && keys !== undefined) {
				const key = JSON.parse(json.slice(i, end)) as string;
				if (keys.has(key)) return { top, duplicate: key };
				keys.add(key);
				if (open.length === 1) top.push(key);
				expectKey = false;
			}
			i = end - 1;
		} else if (c === '{' || c === '[') {
			keys = c === '{' ? new Set() : undefined;
			open.push(keys);
			expectKey = c === '{';
		} else if (c === '}' || c === ']') {
			open.pop();
			keys = open.at(-1);
			expectKey = false;
		} else if (c === ',') {
			expectKey = keys !== undefined;
		}
	}
	return { top, duplicate: undefined };
}

/** Index after the closing quote of the string that starts at `start`. */
function endOfString(json: string, start: number): number {
	for (let i = start + 1; i < json.length; i++) {
		if (json[i] === '\\') i++;
		else if (json[i] === '"') return i + 1;
	}
	return json.length;
}
