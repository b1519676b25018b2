/** @file Encoders run a section at a time give what they give whole. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { sizeOf, tensor } from '../../src/core/tensor.ts';
import { runOnce, withDenoiser } from '../../src/generate/in-sections.ts';
import { checkWeights, openPart } from '../../src/generate/parts.ts';
import { readPipelineIndex } from '../../src/io/model-folder.ts';
import { createEncoder } from '../../src/models/encoders.ts';
import { createDenoiser } from '../../src/models/index.ts';
import { traceChain } from '../../src/nn/chain.ts';
import { relativeDifference } from '../helpers/fixture.ts';
import type { Recording } from '../helpers/recorded-forward.ts';
import { clipIds, t5Ids, tinyPipelines } from '../helpers/tiny-pipelines.ts';

const recording = vi.hoisted((): Recording => ({ runs: [], open: 0, mostOpen: 0 }));
vi.mock('../../src/engine/local/forward.ts', async (original) => {
	const { recordForward } = await import('../helpers/recorded-forward.ts');
	return recordForward(await original<typeof import('../../src/engine/local/forward.ts')>(), recording);
});

let root = '';
let flux = '';
beforeAll(async () => {
	root = mkdtempSync(join(tmpdir(), 'in-sections-'));
	flux = await tinyPipelines(root)('flux');
});
afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => {
	recording.runs.length = 0;
	recording.mostOpen = 0;
});

const run = { devices: 1, threads: 1, elementsPerRow: 2 ** 14 };

describe.each([
	['text_encoder_2', 'T5EncoderModel', ['last_hidden_state'], (word: string) => t5Ids(word, 12)],
	// Outputs of the middle and of the end, and ids that the last section reads again.
	['text_encoder', 'CLIPTextModel', ['hidden_states.1', 'last_hidden_state', 'pooler_output'], (word: string) => clipIds([word])],
] as const)('%s', (name, className, outputs, ids) => {
	it('gives the same in one section and in many', async () => {
		const part = await openPart(flux, await readPipelineIndex(flux), name);
		const masked = className === 'T5EncoderModel';
		const { chain } = createEncoder(className, part.config, name, {
			tokens: 12,
			outputs,
			weightNames: part.weights.names,
			...(masked ? { attentionMask: true } : {}),
		});
		const rows = ['ab', 'cde', 'f'].flatMap(ids);
		const inputs = {
			input_ids: tensor('int64', [3, 12], rows),
			...(masked
				? {
						attention_mask: tensor(
							'int64',
							[3, 12],
							rows.map((id) => (id === 0 ? 0 : 1)),
						),
					}
				: {}),
		};
		const whole = await runOnce(chain, part, inputs, run);
		expect(recording.runs.map((r) => r.chain)).toEqual([chain.name]);
		recording.runs.length = 0;
		const parted = await runOnce(chain, part, inputs, { ...run, maxElements: 1 });
		expect(recording.runs).toHaveLength(chain.layers.length);
		expect(recording).toMatchObject({ open: 0, mostOpen: 1 });
		expect(Object.keys(parted).sort()).toEqual([...outputs].sort());
		for (const output of outputs) {
			expect(parted[output]!.shape).toEqual(whole[output]!.shape);
			expect(relativeDifference(parted[output]!.data as Float32Array, whole[output]!.data as Float32Array)).toBeLessThan(1e-5);
		}
		await part.weights.close();
	});
});

it('sections hold no more than they may', async () => {
	const part = await openPart(flux, await readPipelineIndex(flux), 'text_encoder');
	const { chain } = createEncoder('CLIPTextModel', part.config, 'text_encoder', { weightNames: part.weights.names });
	const sizes = [...traceChain(chain, 1).parameters.values()].map((p) => sizeOf(p.shape));
	const total = sizes.reduce((a, b) => a + b, 0);
	const inputs = { input_ids: tensor('int64', [1, 12], clipIds(['ab'])) };
	await runOnce(chain, part, inputs, { ...run, maxElements: Math.ceil(total / 2) });
	expect(recording.runs.length).toBeGreaterThan(1);
	expect(recording.runs.length).toBeLessThan(chain.layers.length);
	expect(Object.keys(checkWeights(chain, part))).toEqual([...chain.outputs]);
	await part.weights.close();
});

describe('a denoiser', () => {
	const denoiserOf = async () => {
		const part = await openPart(flux, await readPipelineIndex(flux), 'transformer');
		const { chain, fixed } = createDenoiser(part.className, part.config, 'transformer', { height: 8, width: 8, tokens: 4 });
		const rows = 2;
		const inputs = Object.fromEntries(
			Object.entries(chain.inputs).map(([name, { dtype, shape }]) => {
				const all = [rows, ...shape];
				const own = fixed[name]?.data as Float32Array | undefined;
				const size = sizeOf(shape);
				return [
					name,
					tensor(
						dtype,
						all,
						Array.from({ length: rows * size }, (_, i) => own?.[i % size] ?? Math.sin(i)),
					),
				];
			}),
		);
		return { part, chain, inputs, rows };
	};

	it('that does not fit the memory reads its weights section by section, every time it runs', async () => {
		const { part, chain, inputs, rows } = await denoiserOf();
		const told: number[] = [];
		const options = { ...run, rows, onSections: (bytes: number) => told.push(bytes) };
		const [whole] = await withDenoiser(chain, part, options, async (forward) => [await forward.run(inputs)]);
		expect([told, recording.runs.length]).toEqual([[], 1]);
		recording.runs.length = 0;
		const bytes = 4 * [...traceChain(chain, 1).parameters.values()].reduce((sum, p) => sum + sizeOf(p.shape), 0);
		const parted = await withDenoiser(chain, part, { ...options, memoryBytes: 0.6 * bytes }, async (forward) => [
			await forward.run(inputs),
			await forward.run(inputs),
		]);
		expect(told).toEqual([bytes]);
		expect(recording.runs.length).toBeGreaterThanOrEqual(4);
		expect(recording).toMatchObject({ open: 0, mostOpen: 1 });
		for (const { sample } of parted)
			expect(relativeDifference(sample!.data as Float32Array, whole!.sample!.data as Float32Array)).toBeLessThan(1e-5);
		// Two devices hold two copies.
		await withDenoiser(chain, part, { ...options, memoryBytes: 1.5 * bytes, devices: 2 }, async () => {});
		expect(told).toHaveLength(2);
		await part.weights.close();
	});
});
