/** @file Schedules to ask for: a few by hand, and arbitrary ones with arbitrary costs. */
import fc from 'fast-check';
import { placeStages } from '../../../src/plan/schedules/index.ts';
import type { PlaceOptions, StageCosts } from '../../../src/plan/schedules/types.ts';

export interface Request {
	readonly name: string;
	readonly options: PlaceOptions;
}

const shapes: readonly [ranks: number, microBatches: number][] = [
	[1, 3],
	[2, 4],
	[3, 6],
	[4, 8],
];

/** Every schedule in every form, with unit costs. */
export const requests: readonly Request[] = shapes.flatMap(([ranks, microBatches]) => [
	...(['usual', 'deep'] as const).flatMap((warmup): Request[] => [
		{ name: '1f1b', options: { ranks, microBatches, warmup } },
		{ name: '1f1b', options: { ranks, microBatches, warmup, placement: 'folded' } },
		{ name: 'zero-bubble', options: { ranks, microBatches, warmup } },
		{ name: 'zero-bubble', options: { ranks, microBatches, warmup, placement: 'folded' } },
		{ name: 'bidirectional', options: { ranks, microBatches, warmup, backbones: 2 } },
	]),
	{ name: 'gpipe', options: { ranks, microBatches } },
	{ name: 'gpipe', options: { ranks, microBatches, placement: 'folded' } },
	{ name: 'interleaved-1f1b', options: { ranks, microBatches, chunks: 2 } },
	{ name: 'interleaved-1f1b', options: { ranks, microBatches, chunks: 3 } },
	{ name: '1f1b', options: { ranks, microBatches, selfConditioning: true } },
]);

const ms = fc.integer({ min: 0, max: 40 }).map((tenths) => tenths / 10);

/** Costs for the stages of `options`; stages that share a rank have no hop between them. */
export function costsOf(name: string, options: PlaceOptions, each: (stage: number) => StageCosts): readonly StageCosts[] {
	const { stages } = placeStages(name, options);
	return stages.map(({ rank, next, forwardOnly }, i): StageCosts => {
		const its = each(i);
		return {
			...its,
			...(next === undefined || stages[next]!.rank === rank ? { hopForwardMs: 0, hopBackwardMs: 0 } : {}),
			...(forwardOnly ? { backwardInputMs: 0, backwardWeightMs: 0, savedBytes: 0 } : {}),
		};
	});
}

/** Any schedule of 1 to 6 ranks and 1 to 12 micro-batches, half of them with costs of any size, zeros included. */
export const request: fc.Arbitrary<Request> = fc
	.record({
		name: fc.constantFrom('gpipe', '1f1b', 'interleaved-1f1b', 'zero-bubble', 'bidirectional'),
		ranks: fc.integer({ min: 1, max: 6 }),
		microBatches: fc.integer({ min: 1, max: 12 }),
		chunks: fc.integer({ min: 2, max: 3 }),
		warmup: fc.constantFrom('usual' as const, 'deep' as const),
		folded: fc.boolean(),
		swept: fc.constantFrom(false, true, [true, false], [false, true]),
		costs: fc.option(
			fc.array(
				fc.record<StageCosts>({
					forwardMs: ms,
					backwardInputMs: ms,
					backwardWeightMs: ms,
					hopForwardMs: ms,
					hopBackwardMs: ms,
					savedBytes: fc.integer({ min: 0, max: 9 }),
				}),
				{ minLength: 36, maxLength: 36 },
			),
			{ nil: undefined },
		),
	})
	.map(({ name, ranks, microBatches, chunks, warmup, folded, swept, costs }) => {
		const interleaved = name === 'interleaved-1f1b';
		const options: PlaceOptions = {
			ranks,
			microBatches: interleaved ? ranks * Math.ceil(microBatches / ranks) : microBatches,
			warmup,
			selfConditioning: swept,
			...(interleaved ? { chunks } : {}),
			...(folded && !interleaved && name !== 'bidirectional' ? { placement: 'folded' } : {}),
			...(name === 'bidirectional' ? { backbones: 2 } : {}),
		};
		if (costs === undefined) return { name, options };
		return { name, options: { ...options, costs: { stages: costsOf(name, options, (stage) => costs[stage]!) } } };
	});
