/** @file Reads a profile from outside: its form, and what the form alone cannot say (lengths, names, order of components, skips). */
import * as v from 'valibot';
import { DiffusionPipeError, nearestName } from '../../core/errors.ts';
import { count, name, notNegative, parseDocument, placeOf, version } from '../parse.ts';
import type { Backbone, FrozenComponent, Profile } from './types.ts';

const times = v.array(notNegative);

const trainedLayer = v.strictObject({
	name,
	forwardMs: times,
	backwardInputMs: times,
	backwardWeightMs: times,
	cutBytes: notNegative,
	activationBytes: notNegative,
	paramBytes: notNegative,
	gradBytes: notNegative,
	optimizerBytes: v.exactOptional(notNegative),
	updateMs: v.exactOptional(notNegative),
});

const wholeNumber = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const backbone = v.strictObject({
	name,
	selfConditioning: v.pipe(notNegative, v.maxValue(1)),
	layers: v.pipe(v.array(trainedLayer), v.nonEmpty()),
	skips: v.exactOptional(v.array(v.strictObject({ from: wholeNumber, to: wholeNumber, bytes: notNegative }))),
});

const component = v.strictObject({
	name,
	after: v.array(v.string()),
	layers: v.pipe(v.array(v.strictObject({ name, forwardMs: times, outputBytes: notNegative, paramBytes: notNegative })), v.nonEmpty()),
});

const schema = v.strictObject({
	version,
	name: v.string(),
	batchSizes: v.pipe(v.array(count), v.nonEmpty()),
	backbones: v.pipe(v.array(backbone), v.nonEmpty()),
	frozen: v.array(component),
	handling: v.exactOptional(
		v.strictObject({
			feedMs: notNegative,
			fetchMs: notNegative,
			joinMs: notNegative,
			sendMs: notNegative,
			messageMs: v.exactOptional(notNegative),
			betweenMs: notNegative,
			stepMs: notNegative,
		}),
	),
});

/** Makes the error of a field. */
type Refuse = (keys: readonly (string | number)[], what: string, parts?: { expected?: string; found?: string; hint?: string }) => never;

/**
 * The profile that `raw` (parsed JSON) describes.
 * @param place what to name in messages, as the file
 * @throws DiffusionPipeError of kind 'input' naming the field by path, as `backbones[0] (unet).layers[3] (mid).forwardMs[1]`
 */
export function readProfile(raw: unknown, place = 'profile'): Profile {
	const profile: Profile = parseDocument(schema, raw, 'profile', place);
	const refuse: Refuse = (keys, what, parts = {}) => {
		throw new DiffusionPipeError('input', what, { place: placeOf(place, keys, raw), ...parts });
	};
	const { batchSizes, backbones, frozen } = profile;
	batchSizes.forEach((size, i) => {
		if (i > 0 && size <= batchSizes[i - 1]!)
			refuse(['batchSizes', i], 'does not ascend', { expected: `more than ${batchSizes[i - 1]}`, found: String(size) });
	});
	checkNames(backbones, ['backbones'], refuse);
	checkNames(frozen, ['frozen'], refuse);
	const checkTimes = (keys: readonly (string | number)[], ms: readonly number[]) => {
		if (ms.length === batchSizes.length) return;
		refuse(keys, 'has another length than batchSizes', { expected: `${batchSizes.length} times`, found: String(ms.length) });
	};
	backbones.forEach((b, i) => {
		checkNames(b.layers, ['backbones', i, 'layers'], refuse);
		b.layers.forEach((layer, l) => {
			for (const key of ['forwardMs', 'backwardInputMs', 'backwardWeightMs'] as const)
				checkTimes(['backbones', i, 'layers', l, key], layer[key]);
		});
		checkSkips(b, i, refuse);
	});
	frozen.forEach((c, i) => {
		checkNames(c.layers, ['frozen', i, 'layers'], refuse);
		c.layers.forEach((layer, l) => {
			checkTimes(['frozen', i, 'layers', l, 'forwardMs'], layer.forwardMs);
		});
	});
	checkOrder(frozen, refuse);
	return profile;
}

/** Refuses two of one name. */
function checkNames(named: readonly { readonly name: string }[], keys: readonly (string | number)[], refuse: Refuse): void {
	named.forEach(({ name }, i) => {
		const first = named.findIndex((other) => other.name === name);
		if (first < i) refuse([...keys, i, 'name'], 'stands twice', { found: `${JSON.stringify(name)}, the name of number ${first} too` });
	});
}

/** Skips join two layers of the chain, and what is sent between them holds them. */
function checkSkips({ layers, skips = [] }: Backbone, backbone: number, refuse: Refuse): void {
	const carried = layers.map(() => 0);
	skips.forEach(({ from, to, bytes }, i) => {
		const keys = ['backbones', backbone, 'skips', i];
		if (to >= layers.length)
			refuse([...keys, 'to'], 'lies outside the chain', { expected: `at most ${layers.length - 1}`, found: String(to) });
		if (from >= to) refuse([...keys, 'from'], 'does not come before `to`', { expected: `below ${to}`, found: String(from) });
		for (let l = from; l < to; l++) carried[l]! += bytes;
	});
	layers.forEach(({ cutBytes }, l) => {
		// Sums of fractions of bytes may round.
		if (carried[l]! <= cutBytes * (1 + 1e-9)) return;
		refuse(['backbones', backbone, 'layers', l, 'cutBytes'], 'is less than the skips that cross the cut', {
			expected: `at least ${carried[l]}`,
			found: String(cutBytes),
			hint: 'count skips in: cutBytes is all that would be sent there',
		});
	});
}

/** Every name in `after` is that of a component, and none waits for itself. */
function checkOrder(frozen: readonly FrozenComponent[], refuse: Refuse): void {
	const byName = new Map(frozen.map((c, i) => [c.name, i]));
	frozen.forEach((c, i) => {
		c.after.forEach((before, k) => {
			if (byName.has(before)) return;
			const near = nearestName(before, byName.keys());
			refuse(['frozen', i, 'after', k], 'names no frozen component', {
				expected: `one of ${[...byName.keys()].join(', ')}`,
				found: JSON.stringify(before),
				...(near === undefined ? {} : { hint: `did you mean ${near}?` }),
			});
		});
	});
	const done = new Set<number>();
	const visit = (i: number, path: readonly number[]): void => {
		const start = path.indexOf(i);
		if (start >= 0) {
			const cycle = [...path.slice(start), i].map((at) => frozen[at]!.name).join(' after ');
			refuse(['frozen', i, 'after'], 'waits for itself', { found: cycle });
		}
		if (done.has(i)) return;
		for (const before of frozen[i]!.after) visit(byName.get(before)!, [...path, i]);
		done.add(i);
	};
	frozen.forEach((_, i) => {
		visit(i, []);
	});
}
