/** @file The forward pass alone, for sampling: copies of a chain, each cut into stages on devices of its own. */
import { DiffusionPipeError } from '../../core/errors.ts';
import { simplify } from '../../graph/passes/index.ts';
import { type ChainTrace, liveAt, type StageGraph, stageGraph } from '../../nn/chain.ts';
import { type BankLayout, layoutBanks } from '../layout.ts';
import {
	channelId,
	type DeviceProgram,
	deviceId,
	type GraphId,
	graphId,
	type Instruction,
	type SlotId,
	type SourceType,
	slotId,
} from '../types.ts';
import { bankResidents, parameterSlot } from './banks.ts';
import type { Compiled } from './compiled.ts';
import { stageRanges } from './ranges.ts';
import { signatureOf } from './signature.ts';

/** How a forward-only program is laid out: copies of the chain, each on its share of the batch and on one device per stage. */
export interface ForwardLayout {
	/** Devices in all: copies times stages. Copy c's stage s runs on device c * stages + s. */
	readonly devices: number;
	/** Samples of one run of a graph. */
	readonly microBatchSize: number;
	/** First layer of each stage but the first. Default: one stage. */
	readonly cuts?: readonly number[];
	/** Micro-batches that follow each other through the stages of a copy. Default 1. */
	readonly microBatches?: number;
	/** Most elements of a bank, unless one parameter has more: a stage's parameters lie in several. Default: no limit, one bank per stage. */
	readonly bankElements?: number;
}

/** Compiles the forward pass of `trace` for sampling: the last stage of every copy fetches its share of the chain's outputs. */
export function lowerForward(trace: ChainTrace, layout: ForwardLayout): Compiled {
	const { devices, microBatchSize, cuts = [], microBatches = 1, bankElements = Number.POSITIVE_INFINITY } = layout;
	const stages = stageRanges(trace.chain.layers.length, cuts).map(([from, to], s): ForwardStage => {
		const stage = stageGraph(trace, from, to, microBatchSize);
		return {
			...stage,
			graph: simplify(stage.graph),
			id: cuts.length === 0 ? graphId('forward') : graphId(`stage${s}.forward`),
			banks: layoutBanks(cuts.length === 0 ? 'weights' : `stage${s}`, stage.parameters, bankElements),
			incoming: s === 0 ? [] : liveAt(trace, from),
			outgoing: to === trace.chain.layers.length ? [] : liveAt(trace, to),
		};
	});
	if (!Number.isSafeInteger(devices / stages.length) || devices < 1) {
		throw new DiffusionPipeError('program', 'the stages do not fill the devices', {
			place: 'lowering',
			expected: `a multiple of ${stages.length} devices`,
			found: `${devices}`,
		});
	}
	const samples = (devices / stages.length) * microBatches * microBatchSize;
	const sources: Record<string, SourceType> = {};
	for (const [name] of stages.flatMap((stage) => stage.feeds)) {
		const { dtype, shape } = trace.chain.inputs[name]!;
		sources[name] = { dtype, shape: [samples, ...shape], perSample: true };
	}
	return {
		program: {
			version: 1,
			name: `${trace.chain.name} forward, ${devices} devices`,
			devices: Array.from({ length: devices }, (_, d) => forwardDevice(trace, stages, d, microBatches, microBatchSize)),
			graphs: Object.fromEntries(stages.map(({ id, graph }) => [id, signatureOf(graph)])),
			groups: {},
			sources,
		},
		graphs: new Map(stages.map(({ id, graph }) => [id, graph])),
		banks: stages.flatMap((stage) => stage.banks),
	};
}

interface ForwardStage extends StageGraph {
	readonly id: GraphId;
	readonly banks: readonly BankLayout[];
	/** Live ids that come in and go out, in channel order. */
	readonly incoming: readonly string[];
	readonly outgoing: readonly string[];
}

function forwardDevice(
	trace: ChainTrace,
	stages: readonly ForwardStage[],
	d: number,
	microBatches: number,
	microBatchSize: number,
): DeviceProgram {
	const s = d % stages.length;
	const { graph, id, banks, feeds, receives, sends, parameters, incoming, outgoing } = stages[s]!;
	const isLast = s === stages.length - 1;
	const device = deviceId(d);
	const channel = (from: number) => channelId(`${from}>${from + 1}`);
	const iteration: Instruction[] = [];
	for (let m = 0; m < microBatches; m++) {
		const micro = Math.floor(d / stages.length) * microBatches + m;
		const from = micro * microBatchSize;
		const feed = (name: string) => slotId(`feed:${name}#${m}`);
		const live = (liveId: string) => slotId(`${liveId}#${m}`);
		// What is used here and sent on has two slots, the one received and the copy sent; what only passes keeps its slot.
		const received = new Map(receives.map(([liveId]) => [liveId, slotId(`in:${liveId}#${m}`)]));
		const inputs = new Map<string, SlotId>([
			...feeds.map(([name, input]) => [input, feed(name)] as const),
			...receives.map(([liveId, input]) => [input, received.get(liveId)!] as const),
			...parameters.map((p) => [p.name, parameterSlot('', p.name)] as const),
		]);
		for (const [name] of feeds) iteration.push({ op: 'feed', slot: feed(name), source: name, from, to: from + microBatchSize });
		for (const liveId of incoming)
			iteration.push({ op: 'recv', peer: deviceId(d - 1), channel: channel(d - 1), slot: received.get(liveId) ?? live(liveId) });
		iteration.push({
			op: 'run',
			graph: id,
			inputs: graph.inputs.map((name) => inputs.get(name)!),
			outputs: sends.map(([liveId]) => live(liveId)),
			action: { stage: s, kind: 'F', micro },
			label: `${s}F${micro}`,
		});
		const done = [...feeds.map(([name]) => feed(name)), ...received.values()];
		if (isLast) {
			trace.outputs.forEach((liveId, i) => {
				iteration.push({ op: 'fetch', slot: live(liveId), name: trace.chain.outputs[i]!, from });
			});
			done.push(...trace.outputs.map(live));
		}
		if (done.length > 0) iteration.push({ op: 'drop', slots: done });
		for (const liveId of outgoing) iteration.push({ op: 'send', peer: deviceId(d + 1), channel: channel(d), slot: live(liveId) });
	}
	return {
		device,
		banks: banks.map(({ bank, size }) => ({ id: bank, size, moments: 0 })),
		residents: banks.flatMap((bank) => bankResidents(bank, false)),
		prologue: [],
		iteration,
		epilogue: [],
	};
}
