/** @file A tiny lowering for tests: a chain of equal stages, one tensor between neighbours, from a schedule to a program. */
import type { Schedule } from '../../src/plan/schedules/types.ts';
import {
	bankId,
	channelId,
	type DeviceProgram,
	deviceId,
	type GraphSignature,
	graphId,
	groupId,
	type Instruction,
	type Program,
	type Resident,
	slotId,
} from '../../src/program/types.ts';

const WIDTH = 4;
const PARAMETERS = 6;

export interface PipelineOptions {
	/** One row per stage, of F and B. */
	readonly schedule: Schedule;
	readonly replicas?: number;
	/** Samples of a micro-batch. */
	readonly samples?: number;
}

/** Stage s of replica r on device r * stages + s: activations h1, h2, ... go up, gradients g1, g2, ... come down, the last stage fetches the loss. */
export function pipelineProgram({ schedule, replicas = 1, samples = 2 }: PipelineOptions): Program {
	const stages = schedule.length;
	const microBatches = Math.max(...schedule.flat().map(({ micro }) => micro)) + 1;
	const h = { dtype: 'float32', shape: [samples, WIDTH] } as const;
	const weight = { dtype: 'float32', shape: [PARAMETERS] } as const;
	const loss = { dtype: 'float32', shape: [] } as const;
	const graphs: Record<string, GraphSignature> = { norm: { inputs: [weight], outputs: [loss], workspaceBytes: 0 } };
	for (let s = 0; s < stages; s++) {
		const last = s === stages - 1;
		graphs[`stage${s}.forward`] = { inputs: [h, weight], outputs: [last ? loss : h, h], workspaceBytes: 64 };
		graphs[`stage${s}.backward`] = {
			inputs: [h, ...(last ? [] : [h]), weight, weight],
			outputs: [weight, ...(s > 0 ? [h] : [])],
			workspaceBytes: 128,
		};
	}
	const groups: Record<string, ReturnType<typeof deviceId>[]> = {};
	if (replicas > 1)
		for (let s = 0; s < stages; s++) groups[`stage${s}`] = Array.from({ length: replicas }, (_, r) => deviceId(r * stages + s));
	const devices = Array.from({ length: replicas * stages }, (_, d) => deviceProgram(d));
	const batch = replicas * microBatches * samples;
	const sources = {
		x: { dtype: 'float32', shape: [batch, WIDTH], perSample: true },
		hyper: { dtype: 'float32', shape: [3], perSample: false },
	} as const;
	return { version: 1, name: 'chain', devices, graphs, groups, sources };

	function deviceProgram(d: number): DeviceProgram {
		const s = d % stages;
		const last = s === stages - 1;
		const slot = (name: string, m: number) => slotId(`${name}#${m}`);
		const link = (from: number, to: number) => channelId(`${from}>${to}`);
		const out: Instruction[] = [{ op: 'feed', slot: slotId('hyper'), source: 'hyper', from: 0, to: 0 }];
		for (const action of schedule[s]!) {
			const { kind, micro: m } = action;
			const label = `${s}${kind}${m}`;
			if (kind === 'F') {
				const from = (Math.floor(d / stages) * microBatches + m) * samples;
				const input = slot(`h${s}`, m);
				const output = last ? slot('loss', m) : slot(`h${s + 1}`, m);
				if (s === 0) out.push({ op: 'feed', slot: input, source: 'x', from, to: from + samples });
				else out.push({ op: 'recv', peer: deviceId(d - 1), channel: link(d - 1, d), slot: input });
				out.push({
					op: 'run',
					graph: graphId(`stage${s}.forward`),
					inputs: [input, slotId('param:w')],
					outputs: [output, slot('saved:h', m)],
					action,
					label,
				});
				out.push({ op: 'drop', slots: [input] });
				if (last) out.push({ op: 'fetch', slot: output, name: 'loss', from }, { op: 'drop', slots: [output] });
				else out.push({ op: 'send', peer: deviceId(d + 1), channel: link(d, d + 1), slot: output });
			} else {
				const arriving = last ? [] : [slot(`g${s + 1}`, m)];
				const leaving = s > 0 ? [slot(`g${s}`, m)] : [];
				for (const g of arriving) out.push({ op: 'recv', peer: deviceId(d + 1), channel: link(d + 1, d), slot: g });
				out.push({
					op: 'run',
					graph: graphId(`stage${s}.backward`),
					inputs: [slot('saved:h', m), ...arriving, slotId('param:w'), slotId('sum:w')],
					outputs: [slotId('sum:w'), ...leaving],
					action,
					label,
				});
				out.push({ op: 'drop', slots: [slot('saved:h', m), ...arriving] });
				for (const g of leaving) out.push({ op: 'send', peer: deviceId(d - 1), channel: link(d, d - 1), slot: g });
			}
		}
		if (replicas > 1) out.push({ op: 'allReduce', group: groupId(`stage${s}`), slots: [slotId('sum:w')] });
		out.push({ op: 'run', graph: graphId('norm'), inputs: [slotId('sum:w')], outputs: [slotId('norm')], label: 'norm' });
		out.push({ op: 'update', bank: bankId('bank'), hyper: slotId('hyper'), normSquared: slotId('norm') });
		out.push({ op: 'drop', slots: [slotId('hyper'), slotId('norm')] });
		const resident = (role: 'parameter' | 'gradient', name: string): Resident => ({
			slot: slotId(name),
			...weight,
			bank: bankId('bank'),
			role,
			parameter: 'w',
			offset: 0,
		});
		return {
			device: deviceId(d),
			banks: [{ id: bankId('bank'), size: PARAMETERS, moments: 2 }],
			residents: [resident('parameter', 'param:w'), resident('gradient', 'sum:w')],
			prologue: [],
			iteration: out,
			epilogue: [],
		};
	}
}

/** The program with the instructions of one device's section replaced. */
export function edit(
	program: Program,
	device: number,
	change: (instructions: Instruction[]) => readonly Instruction[],
	section: 'prologue' | 'iteration' | 'epilogue' = 'iteration',
): Program {
	const devices = program.devices.map((d) => (d.device === device ? { ...d, [section]: change([...d[section]]) } : d));
	return { ...program, devices };
}
