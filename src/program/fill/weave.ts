/** @file Puts the blocks of frozen work between those of a training iteration, as the plan's clock has them. */
import type { Instruction } from '../types.ts';
import type { TimedBlock } from './emit.ts';

/** A training iteration in pieces: what comes before the first action, one block per action, and what follows the last (sums, norm, update). */
export interface ActionBlocks {
	readonly head: readonly Instruction[];
	readonly actions: readonly (readonly Instruction[])[];
	readonly tail: readonly Instruction[];
}

/**
 * Cuts a device's iteration at its actions. The block of an action begins with the feeds and receives before its run and ends with the fetches, drops and
 * sends after it, as lowering writes them. An action in which there is nothing to compute (a W without weights) has no block.
 */
export function actionBlocks(iteration: readonly Instruction[]): ActionBlocks {
	const runs = iteration.flatMap((i, at) => (i.op === 'run' && i.action ? [at] : []));
	if (runs.length === 0) return { head: [], actions: [], tail: iteration };
	const begins = runs.map((run) => {
		let at = run;
		while (at > 0 && (iteration[at - 1]!.op === 'recv' || feedsSamples(iteration[at - 1]!))) at--;
		return at;
	});
	let end = runs.at(-1)! + 1;
	while (end < iteration.length && ['fetch', 'drop', 'send'].includes(iteration[end]!.op)) end++;
	return {
		head: iteration.slice(0, begins[0]),
		actions: begins.map((begin, i) => iteration.slice(begin, begins[i + 1] ?? end)),
		tail: iteration.slice(end),
	};
}

function feedsSamples(i: Instruction): boolean {
	return i.op === 'feed' && i.to > i.from;
}

/**
 * The iteration with `frozen` in it: before each action whatever the plan starts no later, all other frozen work before the tail, what delivers its results
 * (infinite start) after it. The tail waits for all devices, and the next iteration for all frozen work: a device that came to the tail with frozen work still
 * to do would only make others wait twice. `starts`: planned start of each action that has a block, ms.
 */
export function weave(iteration: readonly Instruction[], starts: readonly number[], frozen: readonly TimedBlock[]): Instruction[] {
	const { head, actions, tail } = actionBlocks(iteration);
	const out: Instruction[] = [...head];
	let next = 0;
	const until = (ms: number) => {
		while (next < frozen.length && frozen[next]!.startMs < ms) out.push(...frozen[next++]!.instructions);
	};
	actions.forEach((block, i) => {
		until(starts[i]! * (1 - 1e-9));
		out.push(...block);
	});
	until(Number.POSITIVE_INFINITY);
	out.push(...tail);
	for (const { instructions } of frozen.slice(next)) out.push(...instructions);
	return out;
}
