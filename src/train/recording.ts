/** @file What traced steps leave in the run's folder: a Chrome trace of each, and the last one as a record that can be compared with the plan. */
import { join } from 'node:path';
import type { HeldBytes } from '../engine/local/engine.ts';
import { measureWorkspaces } from '../engine/local/workspace.ts';
import { writeJson } from '../io/json-file.ts';
import { toChromeTrace } from '../program/chrome-trace.ts';
import type { Compiled } from '../program/lower.ts';
import { type DeviceMemory, recordDocument } from '../program/step-record.ts';
import { plainProgram, sweptProgram } from '../program/swept.ts';
import type { Timeline } from '../program/timeline.ts';
import type { GraphId, Instruction } from '../program/types.ts';
import { verifyProgram } from '../program/verify.ts';
import type { TrainEvent } from './events.ts';
import type { RunFolder } from './run-folder.ts';

/** A traced step. */
export interface TracedStep {
	/** Steps done, from 1. */
	readonly step: number;
	readonly stepMs: number;
	readonly timeline: Timeline;
	readonly held: readonly HeldBytes[];
	/** What the devices ran. */
	readonly compiled: Compiled;
	readonly section: 'iteration' | 'epilogue';
	/** With a sweep ahead. */
	readonly swept: boolean;
}

/**
 * Writes what traced steps leave: a Chrome trace, and the record beside the plan that the step's program is about (there is none for a size of images that
 * was not planned), of steps with a sweep ahead one of their own. The first step of a program waits until the workspaces of its graphs are measured.
 */
export function stepRecorder(
	folder: RunFolder,
	threads: number,
	say: (event: TrainEvent) => void,
): (traced: TracedStep, plan: Pick<RunFolder, 'timeline' | 'sweptTimeline'> | undefined) => Promise<void> {
	const known = new WeakMap<Compiled['graphs'], { readonly workspaces: ReadonlyMap<GraphId, number> | undefined }>();
	const workspacesOf = async (graphs: Compiled['graphs']) => {
		const measured = known.get(graphs);
		if (measured) return measured.workspaces;
		const workspaces = await measureWorkspaces(graphs, threads).catch((error: unknown) => {
			// Training does not depend on it.
			say({ kind: 'note', text: `memory is not measured: ${error instanceof Error ? error.message : String(error)}` });
			return undefined;
		});
		known.set(graphs, { workspaces });
		return workspaces;
	};
	return async ({ step, stepMs, timeline, held, compiled, section, swept }, plan) => {
		await writeJson(join(folder.traces, `step-${step}.json`), toChromeTrace([{ name: `step ${step}`, timeline }]));
		// A step of a filled run without frozen work is not what its plan is about either.
		if (section === 'epilogue' || !plan) return;
		const workspaces = await workspacesOf(compiled.graphs);
		const program = (swept ? sweptProgram : plainProgram)(compiled.program) ?? compiled.program;
		const verified = verifyProgram(program);
		const memory = program.devices.map((device, k): DeviceMemory => {
			const { fixedBytes } = held[k]!;
			const measuredBytes = workspaces && fixedBytes + peakHeld(device[section], held[k]!, workspaces);
			const predictedBytes = verified.devices[k]!.peakBytes;
			return { device: device.device, fixedBytes, predictedBytes, ...(measuredBytes === undefined ? {} : { measuredBytes }) };
		});
		await writeJson(
			swept ? plan.sweptTimeline : plan.timeline,
			recordDocument({ version: 1, step, stepMs, ...(swept ? { swept } : {}), ...timeline, memory }),
		);
	};
}

/** The most that slots and the running graph come to. Inputs and outputs of a graph are slots when it has run. */
export function peakHeld(
	instructions: readonly Instruction[],
	{ slotBytes }: Pick<HeldBytes, 'slotBytes'>,
	workspaces: ReadonlyMap<GraphId, number>,
): number {
	return instructions.reduce((peak, instruction, k) => {
		const workspace = instruction.op === 'run' ? (workspaces.get(instruction.graph) ?? 0) : 0;
		return Math.max(peak, slotBytes[k]! + workspace);
	}, 0);
}
