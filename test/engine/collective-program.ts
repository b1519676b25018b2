/**
 * @file A program written by hand, of what training does not use: a slot fed in the prologue for all iterations, parts of unequal size
 * joined along both axes, a joined slot and a fed slot sent on, and an epilogue.
 */
import { type Tensor, tensor, toNumbers } from '../../src/core/tensor.ts';
import { createBuilder } from '../../src/graph/builder.ts';
import type { Graph } from '../../src/graph/types.ts';
import { type Compiled, signatureOf } from '../../src/program/lower.ts';
import {
	channelId,
	type DeviceProgram,
	deviceId,
	type GraphId,
	graphId,
	groupId,
	type Instruction,
	slotId,
} from '../../src/program/types.ts';

const parts = [1, 2, 3];
const rows = 6;
const columns = 2;

/** y = (x + bias) * (d + 1) on the `count` rows of device d. */
function scaled(d: number): Graph {
	const g = createBuilder(`scaled${d}`);
	const [x, bias] = [g.input('x', 'float32', [parts[d]!, columns]), g.input('bias', 'float32', [columns])];
	return g.finish([g.mul(g.add(x, bias), d + 1)]);
}

/** The same, turned: [columns, rows]. */
function turned(d: number): Graph {
	const g = createBuilder(`turned${d}`);
	return g.finish([g.transpose(g.input('y', 'float32', [parts[d]!, columns]), [1, 0])]);
}

export interface CollectiveProgram {
	readonly compiled: Compiled;
	/** Feeds of a step; bias counts in step 0 only. */
	feeds(step: number): Record<string, Tensor>;
	/** What an iteration on the feeds of `step` must fetch. */
	gathered(step: number): Record<string, number[]>;
}

export function collectiveProgram(): CollectiveProgram {
	const graphs = new Map<GraphId, Graph>();
	const slot = slotId;
	const from = (d: number) => parts.slice(0, d).reduce((a, b) => a + b, 0);
	const devices = parts.map((count, d): DeviceProgram => {
		graphs.set(graphId(`scaled${d}`), scaled(d)).set(graphId(`turned${d}`), turned(d));
		const iteration: Instruction[] = [
			{ op: 'feed', slot: slot('x'), source: 'x', from: from(d), to: from(d) + count },
			{ op: 'run', graph: graphId(`scaled${d}`), inputs: [slot('x'), slot('bias')], outputs: [slot('y')], label: 'scaled' },
			{ op: 'allGather', group: groupId('all'), slot: slot('y'), output: slot('rows'), axis: 0 },
			{ op: 'run', graph: graphId(`turned${d}`), inputs: [slot('y')], outputs: [slot('t')], label: 'turned' },
			{ op: 'allGather', group: groupId('all'), slot: slot('t'), output: slot('columns'), axis: 1 },
			{ op: 'drop', slots: [slot('y'), slot('t')] },
		];
		if (d === 0) {
			iteration.push({ op: 'fetch', slot: slot('rows'), name: 'rows', from: 0 });
			// Memory that the engine fed, and memory that it gathered, both leave the device that made them.
			iteration.push({ op: 'send', peer: deviceId(1), channel: channelId('0>1'), slot: slot('x') });
			iteration.push(
				{ op: 'send', peer: deviceId(1), channel: channelId('0>1'), slot: slot('rows') },
				{ op: 'drop', slots: [slot('columns')] },
			);
		} else if (d === 1) {
			iteration.push({ op: 'drop', slots: [slot('rows'), slot('x')] });
			iteration.push({ op: 'fetch', slot: slot('columns'), name: 'columns', from: 0 }, { op: 'drop', slots: [slot('columns')] });
			iteration.push({ op: 'recv', peer: deviceId(0), channel: channelId('0>1'), slot: slot('x') });
			iteration.push({ op: 'recv', peer: deviceId(0), channel: channelId('0>1'), slot: slot('rows') });
			iteration.push({ op: 'fetch', slot: slot('x'), name: 'first', from: 0 }, { op: 'fetch', slot: slot('rows'), name: 'sent', from: 0 });
			iteration.push({ op: 'drop', slots: [slot('x'), slot('rows')] });
		} else iteration.push({ op: 'drop', slots: [slot('x'), slot('rows'), slot('columns')] });
		const epilogue: Instruction[] = [{ op: 'drop', slots: [slot('bias')] }];
		if (d === 2) epilogue.unshift({ op: 'fetch', slot: slot('bias'), name: 'bias', from: 0 });
		return {
			device: deviceId(d),
			banks: [],
			residents: [],
			prologue: [{ op: 'feed', slot: slot('bias'), source: 'bias', from: 0, to: 0 }],
			iteration,
			epilogue,
		};
	});
	const feeds = (step: number) => ({
		x: tensor(
			'float32',
			[rows, columns],
			Array.from({ length: rows * columns }, (_, i) => i + 100 * step),
		),
		bias: tensor('float32', [columns], step === 0 ? [0.5, -0.5] : [1e6, 1e6]),
	});
	const gathered = (step: number) => {
		const x = toNumbers(feeds(step).x);
		const device = (row: number) => (row < 1 ? 0 : row < 3 ? 1 : 2);
		const y = x.map((v, i) => (v + (i % columns === 0 ? 0.5 : -0.5)) * (device(Math.floor(i / columns)) + 1));
		const columnsOf = Array.from({ length: rows * columns }, (_, i) => y[(i % rows) * columns + Math.floor(i / rows)]!);
		return { rows: y, sent: y, columns: columnsOf, first: x.slice(0, columns) };
	};
	return {
		compiled: {
			program: {
				version: 1,
				name: 'collectives',
				devices,
				graphs: Object.fromEntries([...graphs].map(([id, graph]) => [id, signatureOf(graph)])),
				groups: { all: parts.map((_, d) => deviceId(d)) },
				sources: {
					x: { dtype: 'float32', shape: [rows, columns], perSample: true },
					bias: { dtype: 'float32', shape: [columns], perSample: false },
				},
			},
			graphs,
			banks: [],
		},
		feeds,
		gathered,
	};
}
