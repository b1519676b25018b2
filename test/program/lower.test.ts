import { describe, expect, it } from 'vitest';
import { createBuilder } from '../../src/graph/builder.ts';
import { type Chain, type Layer, traceChain } from '../../src/nn/chain.ts';
import { linear } from '../../src/nn/linear.ts';
import { placeSchedule, scheduleByName } from '../../src/plan/schedules/index.ts';
import type { Action, Schedule } from '../../src/plan/schedules/types.ts';
import { adamwHyperSize } from '../../src/program/adamw.ts';
import { bankChunk, layoutBank } from '../../src/program/layout.ts';
import {
	type Compiled,
	lowerForward,
	lowerPipelines,
	lowerTraining,
	type PipelineLayout,
	peakBytes,
	signatureOf,
	stageRanges,
	type TrainedBackbone,
	type TrainingLayout,
} from '../../src/program/lower.ts';
import { formatInstruction, formatProgram } from '../../src/program/text.ts';
import type { Instruction } from '../../src/program/types.ts';
import { verifyProgram } from '../../src/program/verify.ts';
import { crossingChains, longChain, mixedChain } from '../engine/chains.ts';

const layer = (name: string, build: Layer['build']): Layer => ({ name, build });

/** Four layers with a skip from the first to the last; the second has no parameters. */
const chain: Chain = {
	name: 'tiny',
	inputs: { x: { dtype: 'float32', shape: [4] }, target: { dtype: 'float32', shape: [4] } },
	layers: [
		layer('in', (ctx, live) => live.set('skip', linear(ctx, live.get('x'), 4))),
		layer('act', ({ g }, live) => live.set('h', g.tanh(live.get('skip')))),
		layer('mid', (ctx, live) => live.set('h', linear(ctx, live.get('h'), 4, { bias: false }))),
		layer('loss', ({ g }, live) => {
			const d = g.sub(g.add(live.get('h'), live.get('skip')), live.get('target'));
			live.set('loss', g.reduceMean(g.mul(d, d), [1], false));
		}),
	],
	outputs: ['loss'],
};

function lower(cuts: readonly number[], microBatches: number, options: Partial<TrainingLayout> = {}): Compiled {
	const compiled = lowerTraining(traceChain(chain, 2), {
		cuts,
		replicas: 1,
		microBatches,
		microBatchSize: 2,
		schedule: scheduleByName('1f1b')({ stages: cuts.length + 1, microBatches }),
		moments: 2,
		hyperSize: adamwHyperSize,
		...options,
	});
	return compiled;
}

const iteration = ({ program }: Compiled, device: number): readonly Instruction[] => program.devices[device]!.iteration;

describe('lowerTraining', () => {
	it('gives the program of two stages under 1F1B', () => {
		// The optimiser's piece length and the norm's own arithmetic are tuned apart from this.
		const text = formatProgram(lower([2], 2).program)
			.replace(/^graph normSquared.*\n/m, '')
			.replaceAll(String(bankChunk), 'CHUNK');
		expect(text).toMatchInlineSnapshot(`
			"program tiny training, 1 x 2 devices, version 1
			source hyper float32[10]
			source x float32[4,4], per sample
			source target float32[4,4], per sample
			group copy0 (0, 1)
			graph stage0.forward (float32[2,4], float32[4,4], float32[4]) -> (float32[2,4] x3)
			graph stage0.backward (float32[2,4] x4, float32[4,4], float32[4]) -> (float32[4,4], float32[4]), workspace 112 bytes
			graph stage1.forward (float32[2,4], float32[4,4], float32[2,4] x2) -> (float32[2], float32[2,4]), workspace 64 bytes
			graph stage1.backward (float32[2,4] x2, float32[4,4] x2) -> (float32[2,4] x2, float32[4,4]), workspace 64 bytes
			device 0
			  bank stage0 CHUNK elements, 2 moments
			  resident 2 parameters, 3 gradients
			  iteration
			     0 feed hyper <- hyper
			     1 feed feed:x#0 <- x[0:2]
			     2 run 0F0 stage0.forward (feed:x#0, 2 parameters) -> (skip@0#0, h@1#0, h@1>1#0)
			     3 send skip@0#0 to 1 over 0>1
			     4 send h@1>1#0 to 1 over 0>1
			     5 feed feed:x#1 <- x[2:4]
			     6 run 0F1 stage0.forward (feed:x#1, 2 parameters) -> (skip@0#1, h@1#1, h@1>1#1)
			     7 send skip@0#1 to 1 over 0>1
			     8 send h@1>1#1 to 1 over 0>1
			     9 recv gradIn:h@1#0 from 1 over 1>0
			    10 recv gradIn:skip@0#0 from 1 over 1>0
			    11 run 0B0 stage0.backward (feed:x#0, h@1#0, gradIn:h@1#0, gradIn:skip@0#0, 2 gradients) -> (2 gradients)
			    12 drop (feed:x#0, h@1#0, gradIn:h@1#0, gradIn:skip@0#0)
			    13 recv gradIn:h@1#1 from 1 over 1>0
			    14 recv gradIn:skip@0#1 from 1 over 1>0
			    15 run 0B1 stage0.backward (feed:x#1, h@1#1, gradIn:h@1#1, gradIn:skip@0#1, 2 gradients) -> (2 gradients)
			    16 drop (feed:x#1, h@1#1, gradIn:h@1#1, gradIn:skip@0#1)
			    17 run norm normSquared.CHUNK (sum:stage0/*) -> (normSquared)
			    18 allReduce (normSquared) over copy0
			    19 update stage0 (hyper, normSquared)
			    20 fetch normSquared as normSquared from 0
			    21 drop (normSquared, hyper)
			device 1
			  bank stage1 CHUNK elements, 2 moments
			  resident 1 parameter, 2 gradients
			  iteration
			     0 feed hyper <- hyper
			     1 feed feed:target#0 <- target[0:2]
			     2 recv in:skip@0#0 from 0 over 0>1
			     3 recv in:h@1#0 from 0 over 0>1
			     4 run 1F0 stage1.forward (in:h@1#0, param:mid.weight, in:skip@0#0, feed:target#0) -> (loss@3#0, saved:1/loss/Sub_2#0)
			     5 drop (in:skip@0#0, feed:target#0)
			     6 fetch loss@3#0 as loss from 0
			     7 drop (loss@3#0)
			     8 run 1B0 stage1.backward (in:h@1#0, saved:1/loss/Sub_2#0, param:mid.weight, sum:mid.weight) -> (grad:h@1#0, grad:skip@0#0, sum:mid.weight)
			     9 drop (in:h@1#0, saved:1/loss/Sub_2#0)
			    10 send grad:h@1#0 to 0 over 1>0
			    11 send grad:skip@0#0 to 0 over 1>0
			    12 feed feed:target#1 <- target[2:4]
			    13 recv in:skip@0#1 from 0 over 0>1
			    14 recv in:h@1#1 from 0 over 0>1
			    15 run 1F1 stage1.forward (in:h@1#1, param:mid.weight, in:skip@0#1, feed:target#1) -> (loss@3#1, saved:1/loss/Sub_2#1)
			    16 drop (in:skip@0#1, feed:target#1)
			    17 fetch loss@3#1 as loss from 2
			    18 drop (loss@3#1)
			    19 run 1B1 stage1.backward (in:h@1#1, saved:1/loss/Sub_2#1, param:mid.weight, sum:mid.weight) -> (grad:h@1#1, grad:skip@0#1, sum:mid.weight)
			    20 drop (in:h@1#1, saved:1/loss/Sub_2#1)
			    21 send grad:h@1#1 to 0 over 1>0
			    22 send grad:skip@0#1 to 0 over 1>0
			    23 run norm normSquared.CHUNK (sum:stage1/*) -> (normSquared)
			    24 allReduce (normSquared) over copy0
			    25 update stage1 (hyper, normSquared)
			    26 drop (normSquared, hyper)
			"
		`);
	});

	const moves = (compiled: Compiled) =>
		compiled.program.devices.map(({ iteration: all }) => all.flatMap((i) => (i.op === 'send' ? [`${i.slot} to ${i.peer}`] : [])));

	it('sends a skip from reader to reader, past stages that do not read it, and its gradient back', () => {
		const compiled = lower([1, 2, 3], 1);
		verifyProgram(compiled.program);
		// Stage 1 reads the skip before stage 3 does: both gradients reach stage 0 as one.
		expect(moves(compiled)).toEqual([
			['skip@0#0 to 1'],
			['in:skip@0#0 to 3', 'h@1>2#0 to 2', 'grad:skip@0#0 to 0'],
			['h@2#0 to 3', 'grad:h@1#0 to 1'],
			['grad:h@2#0 to 2', 'grad:skip@0#0 to 1'],
		]);
		expect(compiled.program.graphs['stage2.forward']!.inputs).toHaveLength(2);
		expect(compiled.program.devices[1]!.residents.map((r) => r.parameter)).toEqual(['*']);
	});

	it('sends nothing between stages of one rank: a skip of a folded chain stays where it was made', () => {
		const placed = placeSchedule('1f1b', { ranks: 2, microBatches: 2, placement: 'folded' });
		const compiled = lower([1, 2, 3], 2, { schedule: placed });
		verifyProgram(compiled.program);
		expect(moves(compiled).map((all) => all.map((text) => text.replace(/#\d/, '')))).toEqual([
			['skip@0>1 to 1', 'skip@0>1 to 1', 'grad:h@2 to 1', 'grad:h@2 to 1'],
			['h@2 to 0', 'h@2 to 0', 'grad:skip@0 to 0', 'grad:skip@0 to 0'],
		]);
		expect(compiled.program.devices.map(({ banks }) => banks.map(({ id }) => id))).toEqual([
			['stage0', 'stage3'],
			['stage1', 'stage2'],
		]);
	});

	it('parts the backward: what waits for W is handed on in slots, and counts', () => {
		const placed = placeSchedule('zero-bubble', { ranks: 2, microBatches: 4 });
		const compiled = lower([2], 4, { schedule: placed });
		verifyProgram(compiled.program);
		const runs = iteration(compiled, 1).flatMap((i) => (i.op === 'run' && i.action?.micro === 0 ? [formatInstruction(i)] : []));
		expect(runs).toEqual([
			'run 1F0 stage1.forward (in:h@1#0, param:mid.weight, in:skip@0#0, feed:target#0) -> (loss@3#0, saved:1/loss/Sub_2#0)',
			'run 1I0 stage1.backwardInput (saved:1/loss/Sub_2#0, param:mid.weight) -> (3 grad)',
			'run 1W0 stage1.backwardWeight (in:h@1#0, grad:skip@0#0, sum:mid.weight) -> (sum:mid.weight)',
		]);
	});

	it('gives each device of a rank its rows of every micro-batch, and moves rows between ranks of unequal numbers', () => {
		const placed = placeSchedule('gpipe', { ranks: 2, microBatches: 1 });
		const { program } = lowerPipelines([{ trace: traceChain(chain, 6), cuts: [2] }], {
			schedule: placed,
			pipelines: 1,
			replicas: [2, 3],
			microBatches: 1,
			microBatchSize: 6,
			moments: 2,
			hyperSize: adamwHyperSize,
		});
		verifyProgram(program);
		const fed = program.devices.map((d) =>
			d.iteration.flatMap((i) => (i.op === 'feed' && i.to > 0 ? [`${i.source}[${i.from}:${i.to}]`] : [])),
		);
		expect(fed).toEqual([['x[0:3]'], ['x[3:6]'], ['target[0:2]'], ['target[2:4]'], ['target[4:6]']]);
		const rows = program.devices[3]!.iteration.flatMap((i) =>
			i.op === 'recv' && i.slot.startsWith('in:h') ? [`${i.slot} from ${i.peer}`] : [],
		);
		expect(rows).toEqual(['in:h@1[2:3]#0 from 0', 'in:h@1[3:4]#0 from 1']);
		expect(program.groups).toEqual({ rank0: [0, 1], rank1: [2, 3, 4], all: [0, 1, 2, 3, 4] });
	});

	it('sums the gradients of a stage when they are whole, where nobody waits for the device any more', () => {
		const sums = (schedule: string, place: object, backbones: number, stages: number) => {
			const trace = traceChain(longChain, 1);
			const cuts = Array.from({ length: stages - 1 }, (_, s) => 2 + 2 * s);
			const chains = Array.from({ length: backbones }, (_, b) => ({ ...trace, chain: { ...trace.chain, name: `chain${b}` } }));
			const compiled = lowerPipelines(
				chains.map((each) => ({ trace: each, cuts })),
				{
					schedule: placeSchedule(schedule, { ranks: 2, microBatches: 4, ...place }),
					pipelines: 2,
					microBatches: 4,
					microBatchSize: 1,
					moments: 2,
					hyperSize: adamwHyperSize,
				},
			);
			verifyProgram(compiled.program);
			// The sums and the last of the actions before them.
			return compiled.program.devices.map((_, device) => {
				let last = '';
				return iteration(compiled, device).flatMap((i) => {
					if (i.op === 'run' && i.action) last = i.label!;
					return i.op === 'allReduce' && i.group.startsWith('rank') ? [`${last}: ${i.slots.join(' ')}`] : [];
				});
			});
		};
		// Rank 0's second stage is done before the last passes of its first, which send nothing; rank 1's sends to rank 0 until its last action.
		const interleaved = [['2B3: sum:stage2/*', '0B3: sum:stage0/*'], ['1B3: sum:stage1/* sum:stage3/*']];
		expect(sums('interleaved-1f1b', { chunks: 2 }, 1, 4)).toEqual([...interleaved, ...interleaved]);
		const folded = [['3B3: sum:stage3/*', '0B3: sum:stage0/*'], ['1B3: sum:stage1/* sum:stage2/*']];
		expect(sums('1f1b', { placement: 'folded' }, 1, 4)).toEqual([...folded, ...folded]);
		const both = sums('bidirectional', { backbones: 2 }, 2, 2);
		expect(both).toEqual([
			['3B3: sum:stage3/*', '0B3: sum:stage0/*'],
			['1B3: sum:stage1/*', '2B3: sum:stage2/*'],
			['3B3: sum:stage3/*', '0B3: sum:stage0/*'],
			['1B3: sum:stage1/*', '2B3: sum:stage2/*'],
		]);
	});

	it('gives every replica its share of the samples', () => {
		const { program } = lower([2], 2, { replicas: 2 });
		const fed = program.devices.map((d) =>
			d.iteration.flatMap((i) => (i.op === 'feed' && i.source !== 'hyper' ? [`${i.source}[${i.from}:${i.to}]`] : [])),
		);
		expect(fed).toEqual([
			['x[0:2]', 'x[2:4]'],
			['target[0:2]', 'target[2:4]'],
			['x[4:6]', 'x[6:8]'],
			['target[4:6]', 'target[6:8]'],
		]);
		expect(program.sources.x!.shape).toEqual([8, 4]);
		expect(program.groups).toEqual({ rank0: [0, 2], rank1: [1, 3], copy0: [0, 1], copy1: [2, 3] });
	});

	it('keeps fewer micro-batches of saved values under 1F1B than under GPipe', () => {
		const peak = (name: string) => {
			const { program } = lower([2], 8, { schedule: scheduleByName(name)({ stages: 2, microBatches: 8 }), hyperSize: 0 });
			return verifyProgram(program).devices.map((d) => d.peakBytes - d.fixedBytes);
		};
		const [first, last] = peak('1f1b');
		const [allFirst, allLast] = peak('gpipe');
		expect(first).toBeLessThan(allFirst! / 2);
		expect(last).toBeLessThan(allLast! / 3);
	});

	it.each<[string, Partial<PipelineLayout>, TrainedBackbone['selfConditioning'], RegExp]>([
		[
			'replicas of other ranks',
			{ replicas: [1, 1, 1] },
			undefined,
			/^lowering: replicas of other ranks\n {2}expected: 2 numbers\n {2}found: 3/,
		],
		['more devices than samples', { replicas: [3, 1] }, undefined, /fewer samples[\s\S]*at least 3, for rank 0\n {2}found: 2/],
		[
			'two backbones in a schedule of one',
			{ schedule: placeSchedule('bidirectional', { ranks: 2, microBatches: 2, backbones: 2 }) },
			undefined,
			/another number of backbones\n {2}expected: 1\n {2}found: 2/,
		],
		[
			'a sweep of what is not self-conditioned',
			{ sweptSchedule: placeSchedule('1f1b', { ranks: 2, microBatches: 2, selfConditioning: true }) },
			undefined,
			/^chain tiny: the schedule has a sweep ahead/,
		],
		[
			'an output that the input cannot take',
			{ sweptSchedule: placeSchedule('1f1b', { ranks: 2, microBatches: 2, selfConditioning: true }) },
			{ input: 'guess', output: 'h' },
			/h cannot be fed back as guess\n {2}expected: an input float32\[4\]\n {2}found: inputs x, target/,
		],
	])('refuses %s', (_, options, selfConditioning, message) => {
		const backbone = { trace: traceChain(chain, 2), cuts: [2], ...(selfConditioning ? { selfConditioning } : {}) };
		const layout: PipelineLayout = {
			schedule: placeSchedule('1f1b', { ranks: 2, microBatches: 2 }),
			pipelines: 1,
			microBatches: 2,
			microBatchSize: 2,
			moments: 2,
			hyperSize: 0,
			...options,
		};
		expect(() => lowerPipelines([backbone], layout)).toThrow(message);
	});

	it('leaves gradients where they are when nothing updates them', () => {
		const { program, graphs } = lower([2], 1, { hyperSize: 0, moments: 0 });
		verifyProgram(program);
		expect(program.devices.flatMap((d) => d.iteration).some((i) => i.op === 'update' || i.op === 'allReduce')).toBe(false);
		expect([...graphs.keys()]).toEqual(['stage0.forward', 'stage0.backward', 'stage1.forward', 'stage1.backward']);
		expect(program.sources.hyper).toBeUndefined();
	});

	it.each<[string, () => unknown, RegExp]>([
		['cuts that do not rise', () => lower([2, 2], 1), /^cuts 2, 2: stage 1 has no layers\n {2}expected: rising numbers between 1 and 3/],
		['a cut at the start', () => lower([0], 1), /^cuts 0: stage 0 has no layers/],
		['a cut at the end', () => lower([4], 1), /^cuts 4: stage 1 has no layers/],
		[
			'a schedule of another number of stages',
			() => lower([2], 2, { schedule: scheduleByName('gpipe')({ stages: 3, microBatches: 2 }) }),
			/another number of stages\n {2}expected: 2 stages of tiny\n {2}found: 3/,
		],
		[
			'a W without its I',
			() => {
				const weight: Action = { stage: 0, kind: 'W', micro: 0 };
				const schedule: Schedule = [[{ stage: 0, kind: 'F', micro: 0 }, weight]];
				return lower([], 1, { schedule });
			},
			/rank 0, action 1 \(0W0\): runs too early\n {2}expected: I of the micro-batch before it/,
		],
	])('refuses %s', (_, make, message) => {
		expect(make).toThrow(message);
	});

	it('refuses to cut between layers that share a parameter', () => {
		const shared = layer('again', (ctx, live) => live.set('h', ctx.g.mul(live.get('h'), ctx.param('gain', [4], { kind: 'ones' }))));
		const tied: Chain = {
			...chain,
			layers: [...chain.layers.slice(0, 2), { ...shared, path: 'tied' }, { ...shared, path: 'tied', name: 'more' }, chain.layers[3]!],
		};
		const lowerTied = (cuts: readonly number[]) =>
			lowerTraining(traceChain(tied, 2), {
				cuts,
				replicas: 1,
				microBatches: 1,
				microBatchSize: 2,
				schedule: scheduleByName('gpipe')({ stages: cuts.length + 1, microBatches: 1 }),
				moments: 0,
				hyperSize: 0,
			});
		verifyProgram(lowerTied([2]).program);
		expect(() => lowerTied([3])).toThrow(/^tied\.gain: stages 0 and 1 share a parameter/);
	});

	it('lowers chains that the verifier accepts, for every cut and schedule', () => {
		for (const tested of [mixedChain, longChain]) {
			const { length } = tested.layers;
			for (let a = 1; a < length; a++) {
				for (let b = a + 1; b <= length; b++) {
					const cuts = b < length ? [a, b] : [a];
					for (const name of ['gpipe', '1f1b']) {
						const stages = cuts.length + 1;
						const { program } = lowerTraining(traceChain(tested, 1), {
							cuts,
							replicas: 2,
							microBatches: 3,
							microBatchSize: 1,
							schedule: scheduleByName(name)({ stages, microBatches: 3 }),
							moments: 2,
							hyperSize: adamwHyperSize,
						});
						verifyProgram(program);
					}
				}
			}
		}
	});
});

describe('lowerForward', () => {
	it('gives every device its share and fetches the outputs under their names', () => {
		const { program } = lowerForward(traceChain(chain, 2), { devices: 2, microBatchSize: 2 });
		verifyProgram(program);
		expect(program.devices.map((d) => d.iteration.flatMap((i) => (i.op === 'fetch' ? [`${i.name} from ${i.from}`] : [])))).toEqual([
			['loss from 0'],
			['loss from 2'],
		]);
		expect(program.sources.x!.shape).toEqual([4, 4]);
	});

	it('sends micro-batches through the stages of each copy', () => {
		const compiled = lowerForward(traceChain(chain, 1), { devices: 4, microBatchSize: 1, cuts: [1], microBatches: 2 });
		verifyProgram(compiled.program);
		expect(compiled.banks.map((b) => b.parameters.map((p) => p.name))).toEqual([['in.weight', 'in.bias'], ['mid.weight']]);
		expect(compiled.program.sources.x!.shape).toEqual([4, 4]);
		// The second copy: its first stage computes samples 2 and 3 and sends what the skip and the next layer share, its second stage fetches.
		const text = (device: number) =>
			iteration(compiled, device).flatMap((i) => {
				if (i.op === 'run') return [i.label];
				if (i.op === 'feed') return [`${i.source} ${i.from}`];
				return i.op === 'send' || i.op === 'recv' ? [`${i.op} ${i.channel}`] : i.op === 'fetch' ? [`${i.name} to ${i.from}`] : [];
			});
		expect(text(2)).toEqual(['x 2', '0F2', 'send 2>3', 'x 3', '0F3', 'send 2>3']);
		expect(text(3)).toEqual(['target 2', 'recv 2>3', '1F2', 'loss to 2', 'target 3', 'recv 2>3', '1F3', 'loss to 3']);
	});

	it('lowers cut chains that the verifier accepts, whatever crosses the cuts', () => {
		for (const tested of [mixedChain, longChain, ...crossingChains]) {
			for (let cut = 1; cut < tested.layers.length; cut++) {
				for (const cuts of [[cut], cut > 1 ? [1, cut] : [cut]]) {
					const devices = 2 * (cuts.length + 1);
					verifyProgram(lowerForward(traceChain(tested, 1), { devices, microBatchSize: 1, cuts, microBatches: 3 }).program);
				}
			}
		}
	});

	it('parts what a stage holds into banks, where these may only hold so much', () => {
		const compiled = lowerForward(traceChain(chain, 1), { devices: 1, microBatchSize: 1, bankElements: 20 });
		verifyProgram(compiled.program);
		const held = compiled.banks.map(({ bank, parameters }) => [bank, parameters.map((p) => p.name)]);
		expect(held).toEqual([
			['weights', ['in.weight', 'in.bias']],
			['weights.1', ['mid.weight']],
		]);
		expect(compiled.program.devices[0]!.residents.map((r) => [r.bank, r.parameter, r.offset])).toEqual([
			['weights', 'in.weight', 0],
			['weights', 'in.bias', 16],
			['weights.1', 'mid.weight', 0],
		]);
	});

	it('needs devices for whole copies', () => {
		expect(() => lowerForward(traceChain(chain, 1), { devices: 3, microBatchSize: 1, cuts: [1] })).toThrow(/multiple of 2 devices[\s\S]*3/);
	});
});

describe('stageRanges', () => {
	it('is the ranges between the cuts', () => {
		expect(stageRanges(5, [])).toEqual([[0, 5]]);
		expect(stageRanges(5, [1, 4])).toEqual([
			[0, 1],
			[1, 4],
			[4, 5],
		]);
	});
});

describe('peakBytes', () => {
	it('counts inner values from where they are made to their last use', () => {
		const g = createBuilder('peak');
		const x = g.input('x', 'float32', [10]);
		const a = g.exp(x);
		const b = g.neg(a);
		const c = g.add(a, b);
		const d = g.abs(c);
		const graph = g.finish([g.sqrt(d)]);
		// While c is made, a and b are there too; inputs and outputs are not counted.
		expect(peakBytes(graph)).toBe(3 * 40);
		expect(signatureOf(graph)).toEqual({
			inputs: [{ dtype: 'float32', shape: [10] }],
			outputs: [{ dtype: 'float32', shape: [10] }],
			workspaceBytes: 120,
		});
	});

	it('frees what nobody reads at once', () => {
		const g = createBuilder('unread');
		const x = g.input('x', 'float32', [10]);
		g.exp(x);
		g.exp(x);
		expect(peakBytes(g.finish([g.neg(x)]))).toBe(40);
	});
});

describe('layoutBank', () => {
	it('starts parameters at multiples of 64 bytes and pads to whole chunks', () => {
		const parameter = (name: string, ...shape: number[]) => ({ name, shape, init: { kind: 'zeros' }, trained: name !== 'buffer' }) as const;
		const { size, parameters } = layoutBank('b', [parameter('a', 3), parameter('b', 4, 5), parameter('c')]);
		expect(parameters.map((p) => p.offset)).toEqual([0, 16, 48]);
		expect(size).toBe(bankChunk);
		expect(layoutBank('b', []).size).toBe(bankChunk);
		expect(layoutBank('b', [parameter('a', bankChunk), parameter('b', 1)]).size).toBe(2 * bankChunk);
	});

	it('puts buffers behind the chunks that an optimiser changes', () => {
		const parameter = (name: string, ...shape: number[]) => ({ name, shape, init: { kind: 'zeros' }, trained: name !== 'buffer' }) as const;
		const { size, trained, parameters } = layoutBank('b', [parameter('buffer', 5), parameter('a', 3)]);
		expect(parameters.map((p) => [p.name, p.offset])).toEqual([
			['a', 0],
			['buffer', bankChunk],
		]);
		expect([trained, size]).toEqual([bankChunk, 2 * bankChunk]);
		expect(layoutBank('b', [parameter('buffer', 5)])).toMatchObject({ trained: bankChunk, size: 2 * bankChunk });
	});
});
