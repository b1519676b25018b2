/** @file Checks the options of data sets and words what is wrong with them. */
import * as v from 'valibot';
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';

/** Which part of a data set: the examples to train on, those held out for evaluation, or both. */
export const split = v.optional(v.picklist(['train', 'held-out', 'all']), 'train');

/** A size in pixels. */
export const pixels = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(16384));

type ObjectSchema = v.StrictObjectSchema<v.ObjectEntries, undefined>;

/**
 * The value of `options` with defaults filled in.
 * @param place what to name in messages, as `data`
 * @throws DiffusionPipeError of kind 'config' naming the option, what was expected and what was found
 */
export function parseOptions<S extends ObjectSchema>(schema: S, options: unknown, place: string): v.InferOutput<S> {
	const result = v.safeParse(schema, options);
	if (result.success) return result.output;
	const issue = result.issues[0];
	const path = [place, ...(issue.path ?? []).map((item) => String((item as { key: unknown }).key))].join('.');
	if (issue.type === 'strict_object' && issue.expected === 'never') {
		const key = path.slice(place.length + 1);
		const near = nearestName(key, Object.keys(schema.entries));
		throw new DiffusionPipeError('config', 'no such option', {
			place: path,
			expected: Object.keys(schema.entries).join(', '),
			found: key,
			...(near === undefined ? {} : { hint: near }),
		});
	}
	const missing = issue.type === 'strict_object' && issue.received === 'undefined';
	throw new DiffusionPipeError('config', missing ? 'is missing' : 'has a wrong value', {
		place: path,
		...(missing || issue.expected === null ? {} : { expected: issue.expected }),
		...(missing ? {} : { found: issue.received }),
	});
}
