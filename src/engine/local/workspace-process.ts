/** @file Entry of the process that measures workspaces: each graph runs in an arena of its own, of the kind that runs of devices use. */
import { byteSize } from '../../core/tensor.ts';
import { addressOf, createArena, createEnvironment, createSession, releaseValue, tensorOver } from './native.ts';
import { openOrt, type Pointer } from './ort.ts';
import type { WorkspaceResult, WorkspaceTask } from './workspace.ts';

/** The second run is the first whose memory is planned. */
const runs = 3;

const environment = createEnvironment();

function measure({ model, inputTypes, threads }: WorkspaceTask): number {
	const ort = openOrt();
	ort.check('UnregisterAllocator', 'arena', environment.env, environment.memory);
	createArena(environment);
	const session = createSession(environment, 'workspace', model.model, model, { threads });
	const out: (Pointer | null)[] = [null];
	ort.check('CreateAllocator', 'arena', session.handle, environment.memory, out);
	const allocator = out[0]!;
	// Weights that a session keeps for itself are no workspace.
	const before = stat(allocator, 'InUse');
	const memory = inputTypes.map((type) => new Uint8Array(new SharedArrayBuffer(Math.max(8, byteSize(type)))));
	const inputs = new BigUint64Array(new SharedArrayBuffer(8 * Math.max(1, inputTypes.length)));
	inputTypes.forEach((type, i) => {
		inputs[i] = tensorOver(environment, addressOf(memory[i]!), type);
	});
	const outputs = new BigUint64Array(new SharedArrayBuffer(8 * Math.max(1, model.outputs.length)));
	for (let run = 0; run < runs; run++) {
		outputs.fill(0n);
		session.run(inputs, outputs);
		for (const value of outputs.subarray(0, model.outputs.length)) releaseValue(value);
	}
	const peak = stat(allocator, 'MaxInUse');
	for (const value of inputs.subarray(0, inputTypes.length)) releaseValue(value);
	ort.release('ReleaseAllocator', allocator);
	session.release();
	return Math.max(0, peak - before - model.outputTypes.reduce((sum, type) => sum + byteSize(type), 0));
}

function stat(allocator: Pointer, key: string): number {
	const ort = openOrt();
	const out: (Pointer | null)[] = [null];
	ort.check('AllocatorGetStats', 'arena', allocator, out);
	const value = ort.numberOf(out[0]!, key)!;
	ort.release('ReleaseKeyValuePairs', out[0]!);
	return value;
}

process.on('message', (task: WorkspaceTask) => {
	let result: WorkspaceResult;
	try {
		result = { bytes: measure(task) };
	} catch (error) {
		result = { error: error instanceof Error ? error.message : String(error) };
	}
	process.send!(result);
});
