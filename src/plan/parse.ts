/** @file Checks plain data from outside (profiles, clusters) against a schema, and words what is wrong with it. */
import * as v from 'valibot';
import { DiffusionPipeError, nearestName } from '../core/errors.ts';

/** A number that JSON can hold. */
export const finite = v.pipe(v.number(), v.finite());
export const notNegative = v.pipe(finite, v.minValue(0));
export const positive = v.pipe(finite, v.gtValue(0));
export const count = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
export const name = v.pipe(v.string(), v.nonEmpty());
/** The only version there is. */
export const version = v.literal(1);

/** What of a schema leads to the one of a key or an element. */
interface Nested {
	readonly entries?: Readonly<Record<string, Nested>>;
	readonly item?: Nested;
	readonly wrapped?: Nested;
}

/**
 * `raw` as `schema` describes it.
 * @param what what it is, as `profile`; stands in messages when there is no better `place`
 * @throws DiffusionPipeError of kind 'input' that names the field by path, as `backbones[0].layers[3] (mid).forwardMs[1]`
 */
export function parseDocument<S extends v.GenericSchema>(schema: S, raw: unknown, what: string, place = what): v.InferOutput<S> {
	if (typeof raw === 'object' && raw !== null && 'version' in raw && raw.version !== 1) {
		throw new DiffusionPipeError('input', `is a ${what} of a version that is not known`, {
			place: placeOf(place, ['version'], raw),
			expected: '1',
			found: JSON.stringify(raw.version) ?? 'nothing',
		});
	}
	const result = v.safeParse(schema, raw, { abortEarly: true });
	if (result.success) return result.output;
	const issue = result.issues[0];
	const keys = (issue.path ?? []).map((item) => item.key as string | number);
	const last = String(keys.at(-1));
	if (issue.type === 'strict_object' && issue.expected === 'never') {
		const known = keysAt(schema as Nested, keys.slice(0, -1));
		const near = nearestName(last, known);
		throw new DiffusionPipeError('input', `there is no key ${last}`, {
			place: placeOf(place, keys.slice(0, -1), raw),
			expected: known.join(', '),
			found: last,
			...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
		});
	}
	if (issue.type === 'strict_object' && issue.received === 'undefined' && keys.length > 0) {
		const given = keysGiven(raw, keys.slice(0, -1)).filter((key) => !keysAt(schema as Nested, keys.slice(0, -1)).includes(key));
		const near = nearestName(last, given);
		throw new DiffusionPipeError('input', `${last} is missing`, {
			place: placeOf(place, keys.slice(0, -1), raw),
			...(near === undefined ? {} : { hint: `is ${near} meant to be it?` }),
		});
	}
	throw new DiffusionPipeError('input', 'has a wrong value', {
		place: placeOf(place, keys, raw),
		expected: expectationOf(issue),
		found: issue.received,
	});
}

/** A path as people write it; elements with a name of their own are named: `layers[3] (mid)`. */
export function placeOf(place: string, keys: readonly (string | number)[], raw: unknown): string {
	let at = raw;
	let text = '';
	for (const key of keys) {
		at = (at as Readonly<Record<string | number, unknown>> | undefined)?.[key];
		if (typeof key === 'string') text += text === '' ? key : `.${key}`;
		else text += `[${key}]`;
		const own = typeof key === 'number' && typeof at === 'object' && at !== null && 'name' in at ? at.name : undefined;
		if (typeof own === 'string') text += ` (${own})`;
	}
	return text === '' ? place : `${place}: ${text}`;
}

/** Keys of the object that `path` leads to. */
function keysAt(schema: Nested, path: readonly (string | number)[]): string[] {
	const unwrapped = (at: Nested | undefined): Nested | undefined => (at?.wrapped ? unwrapped(at.wrapped) : at);
	let at = unwrapped(schema);
	for (const key of path) at = unwrapped(at?.item ?? at?.entries?.[key]);
	return Object.keys(at?.entries ?? {});
}

function keysGiven(raw: unknown, path: readonly (string | number)[]): string[] {
	const at = path.reduce<unknown>((value, key) => (value as Readonly<Record<string | number, unknown>>)[key], raw);
	return Object.keys(at as object);
}

function expectationOf(issue: v.BaseIssue<unknown>): string {
	switch (issue.type) {
		case 'safe_integer':
			return 'a whole number';
		case 'finite':
			return 'a number';
		case 'non_empty':
			return 'at least one';
		case 'min_value':
			return `a number from ${String(issue.requirement)}`;
		case 'max_value':
			return `a number up to ${String(issue.requirement)}`;
		case 'gt_value':
			return `a number above ${String(issue.requirement)}`;
		case 'strict_object':
			return 'an object';
		case 'array':
			return 'a list';
		default:
			return issue.expected ?? 'another value';
	}
}
