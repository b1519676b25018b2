/** @file Reading published `config.json` files: every option has a known meaning, and one we do not support is an error naming it. */
import { DiffusionPipeError, nearestName } from '../core/errors.ts';

/** What a config option may be. `only`: the values we implement; anything else is refused by name. */
export type Option<T> =
	| { readonly kind: 'number'; readonly default?: T }
	| { readonly kind: 'boolean'; readonly default?: T }
	| { readonly kind: 'string'; readonly default?: T }
	| { readonly kind: 'any'; readonly default?: T }
	| { readonly kind: 'only'; readonly values: readonly unknown[]; readonly default?: T };

export type OptionsOf<C> = { readonly [K in keyof C]-?: Option<C[K]> };

/**
 * Checks `raw` against `options` and fills defaults in. Keys starting with `_` and `null` values are as absent.
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
		const value = given[key] ?? option.default;
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
		} else if (value !== null && option.kind !== 'any' && typeof value !== option.kind) wrong(`a ${option.kind}`);
		result[key] = value;
	}
	return result as C;
}
