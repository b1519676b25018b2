/** @file The published JSON Schemas say the same as what reads the files. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readCluster } from '../../src/plan/cluster/read.ts';
import type { Cluster } from '../../src/plan/cluster/types.ts';
import { planDocument, readPlan } from '../../src/plan/plan-json.ts';
import { readProfile } from '../../src/plan/profile/read.ts';
import type { Profile } from '../../src/plan/profile/types.ts';
import type { Plan } from '../../src/plan/types.ts';
import { accepts, type JsonSchema } from '../helpers/json-schema.ts';

/** Every field that may be absent is there; none of the numbers lies on a limit, so that half of it does not break a rule between fields. */
const profile: Profile = {
	version: 1,
	name: 'all fields',
	batchSizes: [1],
	backbones: [
		{
			name: 'unet',
			selfConditioning: 0.25,
			layers: ['in', 'out'].map((name) => ({
				name,
				forwardMs: [1],
				backwardInputMs: [1],
				backwardWeightMs: [1],
				cutBytes: 8,
				activationBytes: 8,
				paramBytes: 8,
				gradBytes: 8,
				optimizerBytes: 8,
				updateMs: 8,
			})),
			skips: [{ from: 0, to: 1, bytes: 0.25 }],
		},
	],
	frozen: [{ name: 'vae', after: [], layers: [{ name: 'all', forwardMs: [1], outputBytes: 8, paramBytes: 8 }] }],
};
const link = { latencyMs: 1, bytesPerMs: 8 };
const cluster: Cluster = { version: 1, hosts: 2, devicesPerHost: 4, memoryBytes: 8, intra: link, inter: link };
const fill = [{ device: 0, startMs: 0.25, endMs: 2, component: 'vae', layer: 0, samples: [0, 1] as const }];
const moves = [{ from: 0, to: 1, startMs: 0.25, endMs: 2, component: 'vae', layer: 0, samples: [0, 1] as const }];
const plan: Plan = {
	version: 1,
	profile: 'all fields',
	batch: 2,
	devices: 2,
	pipelines: 1,
	ranks: 1,
	microBatches: 2,
	schedule: '1f1b',
	warmup: 'deep',
	placement: 'folded',
	layout: 'copies',
	recompute: true,
	stages: [{ backbone: 'unet', layers: [0, 2], devices: [0], rank: 0, replicas: 1, forwardMs: 1, backwardMs: 2, syncMs: 3 }],
	iterationMs: 9,
	lowerBoundMs: 8,
	pipelineMs: 7,
	frozenMs: 6,
	imagesPerSecond: 5,
	bubbleRatio: { unfilled: 0.5, filled: 0.25 },
	peakBytes: [8],
	fill,
	moves,
	rows: ['0F0,0B0'],
	selfConditioning: { probability: 0.5, iterationMs: 9, rows: ['0F0'], fill, moves },
	baselines: [
		{ name: 'one', iterationMs: Number.POSITIVE_INFINITY, imagesPerSecond: 0, peakBytes: 8, fits: false, detail: 'too large' },
		{ name: 'two', iterationMs: 8, imagesPerSecond: 1, peakBytes: 8, fits: true, detail: '' },
	],
};

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
type Path = readonly (string | number)[];

/** Paths to everything in `value`. */
function pathsOf(value: Json, at: Path = []): Path[] {
	if (typeof value !== 'object' || value === null) return [at];
	return [at, ...Object.entries(value).flatMap(([key, inner]) => pathsOf(inner, [...at, Array.isArray(value) ? Number(key) : key]))];
}

/** A copy of `value` with what stands at `path` changed; undefined takes it away. */
function changed(value: Json, path: Path, change: (old: Json) => Json | undefined): Json {
	const [first, ...rest] = path;
	if (first === undefined) return change(value) ?? null;
	const copy: Record<string | number, Json> | Json[] = Array.isArray(value) ? [...value] : { ...(value as object) };
	const target = copy as Record<string | number, Json>;
	if (rest.length > 0) target[first] = changed(target[first]!, rest, change);
	else {
		const next = change(target[first]!);
		if (next === undefined) delete target[first];
		else target[first] = next;
	}
	return copy as Json;
}

/** Wrong and right ways to change a field. Rules between fields are the reader's alone, so none of these breaks one without breaking the form. */
function changesOf(value: Json): readonly [what: string, (old: Json) => Json | undefined][] {
	const values: readonly (Json | undefined)[] = ['text', '', -1, 1.5, null, true, [], {}];
	const kinds: [string, (old: Json) => Json | undefined][] = values.map((v) => [`to ${JSON.stringify(v)}`, () => v]);
	if (typeof value === 'object' && value !== null && !Array.isArray(value))
		kinds.push(['with an unknown key', (old) => ({ ...(old as object), 'un known': 1 })]);
	if (Array.isArray(value)) kinds.push(['with one of another form', (old) => [...(old as readonly Json[]), false]]);
	return kinds;
}

/** Fields whose wrong values only what reads them can tell: their sizes and names must fit others. */
const related: Readonly<Record<string, RegExp>> = {
	profile: /(Ms|batchSizes|after\.0) to \[\]$/,
	cluster: /^$/,
	plan: /(layers|samples) with|(rows|devices)( |\.0 )to |samples to \[\]|endMs to/,
};

describe.each<[string, unknown, (raw: unknown) => unknown]>([
	['profile', profile, readProfile],
	['cluster', cluster, readCluster],
	['plan', planDocument(plan), readPlan],
])('schemas/%s.schema.json', (name, document, read) => {
	const schema = JSON.parse(readFileSync(new URL(`../../schemas/${name}.schema.json`, import.meta.url), 'utf8')) as JsonSchema;
	const example = JSON.parse(JSON.stringify(document)) as Json;
	const reads = (value: Json) => {
		try {
			read(value);
			return true;
		} catch {
			return false;
		}
	};

	it('accepts what is read', () => {
		expect(() => read(example)).not.toThrow();
		expect(accepts(schema, example)).toBe(true);
	});

	it('agrees on every field that is missing, changed or added', () => {
		let refused = 0;
		for (const path of pathsOf(example)) {
			const at = path.reduce<Json>((value, key) => (value as { readonly [key: string | number]: Json })[key]!, example);
			const changes = [...changesOf(at)];
			if (typeof path.at(-1) === 'string') changes.push(['taken away', () => undefined]);
			for (const [what, change] of changes) {
				const title = `${path.join('.')} ${what}`;
				if (related[name]!.test(title)) continue;
				const value = changed(example, path, change);
				expect({ title, accepted: accepts(schema, value) }).toEqual({ title, accepted: reads(value) });
				if (!accepts(schema, value)) refused++;
			}
		}
		expect(refused).toBeGreaterThan(50);
	});

	it('describes every field', () => {
		const bare: string[] = [];
		const visit = (part: unknown, path: string) => {
			if (typeof part !== 'object' || part === null) return;
			for (const [key, inner] of Object.entries(part)) {
				if (key === 'properties') {
					for (const [field, of] of Object.entries(inner as Readonly<Record<string, JsonSchema>>))
						if (!('description' in of) && !('$ref' in of) && !('properties' in of)) bare.push(`${path}.${field}`);
				}
				visit(inner, `${path}.${key}`);
			}
		};
		visit(schema, name);
		expect(bare).toEqual([]);
	});
});
