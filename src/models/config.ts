/** @file Reading published `config.json` files: every option has a known meaning, and one we do not support is an error naming it. */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';

/**
 * What a config option may be. `numbers` and `strings` are lists; `number or numbers` and `boolean or booleans` one value for every block or a list
 * with one for each. `only`: the values we implement; anything else is refused by name. `keepNull`: null is a value of its own, not an absent one.
 */
export type Option<T> =
	| { readonly kind: 'only'; readonly values: readonly unknown[]; readonly default?: T; readonly keepNull?: true }
	| { readonly kind: keyof typeof kinds | 'any'; readonly default?: T; readonly keepNull?: true };

const listOf = (type: string) => (v: unknown) => Array.isArray(v) && v.every((e) => typeof e === type);
const kinds = {
	number: (v: unknown) => typeof v === 'number',
	boolean: (v: unknown) => typeof v === 'boolean',
	string: (v: unknown) => typeof v === 'string',
	numbers: listOf('number'),
	strings: listOf('string'),
	'number or numbers': (v: unknown) => typeof v === 'number' || listOf('number')(v),
	'boolean or booleans': (v: unknown) => typeof v === 'boolean' || listOf('boolean')(v),
};

export type OptionsOf<C> = { readonly [K in keyof C]-?: Option<C[K]> };

/**
 * Checks `raw` against `options` and fills defaults in. Keys starting with `_` and `null` values (but where `keepNull`) are as absent.
 * Throws a config error naming the file, the key, what was expected and found, and the nearest known name.
 */
export function readConfig<C extends object>(className: string, raw: unknown, options: OptionsOf<C>, place = className): C {
	if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
		throw new DiffusionPipeError('config', 'is not a JSON object', { place, found: Array.isArray(raw) ? 'an array' : String(raw) });
	}
	const given = raw as Record<string, unknown>;
	if (given._class_name !== undefined && given._class_name !== className) {
		throw new DiffusionPipeError('config', 'is for another model class', { place, expected: className, found: String(given._class_name) });
	}
	const names = Object.keys(options);
	for (const key of Object.keys(given)) {
		if (key.startsWith('_') || Object.hasOwn(options, key)) continue;
		const near = nearestName(key, names);
		throw new DiffusionPipeError('config', `option ${key} is not known`, {
			place,
			found: `${key} = ${JSON.stringify(given[key])}`,
			...(near ? { hint: `did you mean ${near}?` } : {}),
		});
	}
	const result: Record<string, unknown> = {};
	for (const [key, option] of Object.entries(options) as [string, Option<unknown>][]) {
		const value = option.keepNull && given[key] === null ? null : (given[key] ?? option.default);
		const wrong = (expected: string): never => {
			throw new DiffusionPipeError('config', `option ${key} cannot be used`, {
				place,
				expected,
				found: JSON.stringify(value) ?? 'nothing',
			});
		};
		if (option.kind === 'only') {
			if (!option.values.includes(value)) wrong(`one of ${option.values.map((v) => JSON.stringify(v)).join(', ')}`);
		} else if (value === undefined) {
			if (!('default' in option)) wrong(`a ${option.kind}`);
		} else if (value !== null && option.kind !== 'any' && !kinds[option.kind](value)) wrong(`a ${option.kind}`);
		result[key] = value;
	}
	return result as C;
}

/** `value` for each of `count` blocks: itself repeated, or a list that must have that length. Throws a config error naming the option. */
export function perBlock<T extends number | boolean | string>(
	option: string,
	value: T | readonly T[],
	count: number,
	place: string,
): readonly T[] {
	if (!Array.isArray(value)) return new Array<T>(count).fill(value as T);
	if (value.length !== count) {
		throw new DiffusionPipeError('config', `option ${option} does not fit the blocks`, {
			place,
			expected: `${count} values`,
			found: JSON.stringify(value),
		});
	}
	return value as readonly T[];
}
