/**
 * @file What graphs need beside their inputs and outputs while they run, as ONNX Runtime's own arena counts it: in a process of its own, since the arena
 * of a process is shared by all of its sessions and never forgets its peak.
 */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { DiffusionPipeError } from '../../core/errors.ts';
import type { TypeShape } from '../../core/tensor.ts';
import { workerEntry } from '../../core/worker-entry.ts';
import { type Graph, valueNamed } from '../../graph/types.ts';
import { modelOf } from './engine.ts';
import { structureKey } from './measure.ts';
import { openOrt } from './ort.ts';
import type { GraphModel } from './protocol.ts';

/** A graph as the measuring process gets it. */
export interface WorkspaceTask {
	readonly model: GraphModel;
	readonly inputTypes: readonly TypeShape[];
	readonly threads: number;
}

/** Bytes of the task's graph, or what went wrong. */
export type WorkspaceResult = { readonly bytes: number } | { readonly error: string };

/**
 * Bytes of each graph: the arena's peak over a few runs less its outputs. Graphs of equal structure are measured once. Undefined when this release of ONNX
 * Runtime does not tell (before 1.23). Throws an engine error when a graph cannot run.
 */
export async function measureWorkspaces<Id>(graphs: ReadonlyMap<Id, Graph>, threads = 1): Promise<ReadonlyMap<Id, number> | undefined> {
	if (!openOrt().has('AllocatorGetStats')) return undefined;
	const keys = new Map([...graphs].map(([id, graph]) => [id, structureKey(graph)]));
	const distinct = new Map([...graphs].map(([id, graph]) => [keys.get(id)!, graph]));
	const child = fork(fileURLToPath(workerEntry(import.meta.url, './workspace-process.js')), { serialization: 'advanced', execArgv: [] });
	try {
		const bytes = new Map<string, number>();
		for (const [key, graph] of distinct) {
			const inputTypes = graph.inputs.map((name): TypeShape => {
				const { dtype, shape } = valueNamed(graph, name);
				return { dtype, shape };
			});
			bytes.set(key, await ask(child, { model: modelOf(graph), inputTypes, threads }, graph.name));
		}
		return new Map([...keys].map(([id, key]) => [id, bytes.get(key)!]));
	} finally {
		child.disconnect();
	}
}

function ask(child: ReturnType<typeof fork>, task: WorkspaceTask, name: string): Promise<number> {
	return new Promise((resolve, reject) => {
		const fail = (what: string) => reject(new DiffusionPipeError('engine', what, { place: `workspace of graph ${name}` }));
		const ended = (code: number | null) => fail(`the measuring process ended (exit code ${code})`);
		child.once('exit', ended);
		child.once('message', (result: WorkspaceResult) => {
			child.off('exit', ended);
			if ('error' in result) fail(result.error);
			else resolve(result.bytes);
		});
		child.send(task);
	});
}
