import { describe, expect, it } from 'vitest';
import { readProfile } from '../../../src/plan/profile/read.ts';
import type { Backbone, FrozenComponent, FrozenLayer, Profile, TrainedLayer } from '../../../src/plan/profile/types.ts';

const layer = (name: string, change: Partial<TrainedLayer> = {}): TrainedLayer => ({
	name,
	forwardMs: [1, 2],
	backwardInputMs: [1, 2],
	backwardWeightMs: [1, 2],
	cutBytes: 100,
	activationBytes: 10,
	paramBytes: 4,
	gradBytes: 4,
	...change,
});
const frozenLayer: FrozenLayer = { name: 'only', forwardMs: [1, 2], outputBytes: 8, paramBytes: 4 };
const component = (name: string, ...after: string[]): FrozenComponent => ({ name, after, layers: [frozenLayer] });
const unet: Backbone = {
	name: 'unet',
	selfConditioning: 0.5,
	layers: [layer('in'), layer('down'), layer('up', { optimizerBytes: 12, updateMs: 0.1 })],
	skips: [{ from: 0, to: 2, bytes: 60 }],
};
const profile: Profile = {
	version: 1,
	name: 'small',
	batchSizes: [1, 4],
	backbones: [unet],
	frozen: [component('text'), component('locked', 'vae', 'text'), component('vae')],
};
const withUNet = (change: object) => ({ ...profile, backbones: [{ ...unet, ...change }] });
const withLayer = (change: object) => withUNet({ layers: [layer('in'), { ...layer('down'), ...change }, layer('up')] });
const message = (raw: unknown) => {
	try {
		readProfile(raw, 'p.json');
	} catch (error) {
		return (error as Error).message;
	}
	return 'taken';
};

describe('readProfile', () => {
	it('gives what it reads', () => {
		expect(readProfile(JSON.parse(JSON.stringify(profile)))).toEqual(profile);
	});

	it('names a field by its path', () => {
		expect(message(withLayer({ forwardMs: [1, -2] }))).toBe(
			'p.json: backbones[0] (unet).layers[1] (down).forwardMs[1]: has a wrong value\n  expected: a number from 0\n  found: -2',
		);
	});

	it('names the nearest key for one that is not known', () => {
		expect(message(withLayer({ forwardMS: [1, 2] }))).toBe(
			[
				'p.json: backbones[0] (unet).layers[1] (down): there is no key forwardMS',
				'  expected: name, forwardMs, backwardInputMs, backwardWeightMs, cutBytes, activationBytes, paramBytes, gradBytes, optimizerBytes, updateMs',
				'  found: forwardMS',
				'  try: did you mean forwardMs?',
			].join('\n'),
		);
	});

	it('names what is missing, and what may have been meant', () => {
		const { forwardMs: _, ...rest } = layer('down');
		expect(message(withUNet({ layers: [{ ...rest, forwardms: [1, 2] }] }))).toBe(
			'p.json: backbones[0] (unet).layers[0] (down): forwardMs is missing\n  try: is forwardms meant to be it?',
		);
		expect(message({})).toBe('p.json: version is missing');
	});

	it.each<[string, unknown, RegExp]>([
		['what is no object', 'text', /^p\.json: has a wrong value\n {2}expected: an object/],
		['another version', { ...profile, version: 2 }, /^p\.json: version: .*version.*not known\n {2}expected: 1\n {2}found: 2$/],
		['no version', { ...profile, version: undefined }, /^p\.json: version/],
		['no batch sizes', { ...profile, batchSizes: [] }, /batchSizes: .*\n {2}expected: at least one/],
		['batch sizes that do not ascend', { ...profile, batchSizes: [4, 4] }, /batchSizes\[1\]: does not ascend\n {2}expected: more than 4/],
		['a batch size of no samples', { ...profile, batchSizes: [0, 4] }, /batchSizes\[0\]: .*\n {2}expected: a number from 1/],
		['half a sample', { ...profile, batchSizes: [1, 1.5] }, /batchSizes\[1\]: .*\n {2}expected: a whole number/],
		['a time that is no number', withLayer({ backwardInputMs: [1, Number.NaN] }), /\(down\)\.backwardInputMs\[1\]: .*\n.*\n {2}found: NaN/],
		['an endless time', withLayer({ backwardInputMs: [1, Number.POSITIVE_INFINITY] }), /\(down\)\.backwardInputMs\[1\]/],
		[
			'too few times',
			withLayer({ backwardWeightMs: [1] }),
			/\(down\)\.backwardWeightMs: has another length than batchSizes\n {2}expected: 2 times\n {2}found: 1/,
		],
		['negative bytes', withLayer({ gradBytes: -1 }), /\(down\)\.gradBytes/],
		['null for a number', withLayer({ optimizerBytes: null }), /\(down\)\.optimizerBytes: .*\n.*\n {2}found: null/],
		['no backbone', { ...profile, backbones: [] }, /backbones: .*\n {2}expected: at least one/],
		['no layers', withUNet({ layers: [], skips: [] }), /backbones\[0\] \(unet\)\.layers: .*\n {2}expected: at least one/],
		['two layers of one name', withUNet({ layers: [layer('a'), layer('a'), layer('b')] }), /layers\[1\] \(a\)\.name: stands twice/],
		['two backbones of one name', { ...profile, backbones: [unet, unet] }, /backbones\[1\] \(unet\)\.name: stands twice/],
		['a layer without a name', withLayer({ name: '' }), /layers\[1\] \(\)\.name/],
		['a probability above 1', withUNet({ selfConditioning: 1.5 }), /selfConditioning: .*\n {2}expected: a number up to 1/],
		['a negative probability', withUNet({ selfConditioning: -0.5 }), /selfConditioning: .*\n {2}expected: a number from 0/],
		['a skip out of the chain', withUNet({ skips: [{ from: 0, to: 3, bytes: 1 }] }), /skips\[0\]\.to: lies outside/],
		['a skip backwards', withUNet({ skips: [{ from: 1, to: 1, bytes: 1 }] }), /skips\[0\]\.from: does not come before/],
		['a skip larger than what is sent', withUNet({ skips: [{ from: 0, to: 1, bytes: 101 }] }), /layers\[0\] \(in\)\.cutBytes: is less/],
		[
			'an unknown component',
			{ ...profile, frozen: [component('text'), component('locked', 'texts')] },
			/frozen\[1\] \(locked\)\.after\[0\]: names no frozen component\n {2}expected: one of text, locked\n {2}found: "texts"\n {2}try: did you mean text/,
		],
		[
			'components in a circle',
			{ ...profile, frozen: [component('x', 'a'), component('a', 'b'), component('b', 'c'), component('c', 'a')] },
			/frozen\[1\] \(a\)\.after: waits for itself\n {2}found: a after b after c after a/,
		],
		['a component after itself', { ...profile, frozen: [component('a', 'a')] }, /waits for itself\n {2}found: a after a/],
		['two components of one name', { ...profile, frozen: [component('a'), component('a')] }, /frozen\[1\] \(a\)\.name: stands twice/],
		[
			'frozen times of another length',
			{ ...profile, frozen: [{ ...component('a'), layers: [{ ...frozenLayer, forwardMs: [1, 2, 3] }] }] },
			/frozen\[0\] \(a\)\.layers\[0\] \(only\)\.forwardMs: has another length/,
		],
	])('refuses %s', (_, raw, wanted) => {
		expect(message(raw)).toMatch(wanted);
	});
});
