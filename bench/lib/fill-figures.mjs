/** @file Figures of `bench fill` that are no ratio of two medians: what a traced iteration and a profile tell. */
import { measureWorkspaces } from '../../dist/engine/local/workspace.js';
import { verifyProgram } from '../../dist/program/verify.js';
import { peakHeld } from '../../dist/train/recording.js';
import { median } from './stats.mjs';

/** Steps of `run` with a timeline and without by turns: what the traced ones gave, and the medians of both. */
export async function traceByTurns(run, rounds) {
	const [traced, plain] = [[], []];
	// The first ones run code that was not run before.
	for (let i = -2; i < rounds; i++) {
		const [a, b] = [await run.next({ trace: true }), await run.next()];
		if (i < 0) continue;
		traced.push(a);
		plain.push(b.ms);
	}
	return { traced, tracedMs: median(traced.map(({ ms }) => ms)), plainMs: median(plain) };
}

/** By device, |predicted - measured| / measured of the most memory that an iteration holds: what the verifier says, and what slots and graphs were. */
export async function memoryErrors({ compiled: { program, graphs } }, held) {
	const workspaces = await measureWorkspaces(graphs);
	const verified = verifyProgram(program);
	return program.devices.map(({ iteration }, k) => {
		const measured = held[k].fixedBytes + peakHeld(iteration, held[k], workspaces);
		return Math.abs(verified.devices[k].peakBytes - measured) / measured;
	});
}

/** Frozen forward time over trained forward and backward time, per sample on one device. */
export function frozenOverTrained({ batchSizes, backbones, frozen }, micro) {
	const at = batchSizes.indexOf(micro);
	const last = batchSizes.length - 1;
	const sum = (layers, key, i) => layers.reduce((n, layer) => n + layer[key][i], 0) / batchSizes[i];
	const trained = ['forwardMs', 'backwardInputMs', 'backwardWeightMs'].reduce((n, key) => n + sum(backbones[0].layers, key, at), 0);
	return frozen.reduce((n, { layers }) => n + sum(layers, 'forwardMs', last), 0) / trained;
}
