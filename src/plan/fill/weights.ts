/** @file Which device holds the weights of which frozen layers: every block has a home that keeps room for it, other copies take what is left. */
import type { Block } from './model.ts';
import { blockPlace, fillError } from './problem.ts';
import type { FillProblem } from './types.ts';

export interface Weights {
	/** Whether every device holds everything: then nothing below matters. */
	readonly everywhere: boolean;
	/** Per block, the device that keeps room for it. */
	readonly home: readonly number[];
	/** Per device, what is left beside the blocks whose home it is. */
	readonly spare: readonly number[];
	/** Devices with room for all blocks at once, beside nothing. */
	readonly holdsAll: readonly number[];
}

/** Homes of all blocks; throws an input error naming component and layer when one fits nowhere. */
export function weightsOf(problem: FillProblem, blocks: readonly Block[]): Weights {
	const devices = problem.idle.length;
	const free = problem.freeBytes ?? Array<number>(devices).fill(Number.POSITIVE_INFINITY);
	const all = blocks.reduce((sum, { paramBytes }) => sum + paramBytes, 0);
	const holdsAll = free.flatMap((bytes, device) => (bytes >= all ? [device] : []));
	const everywhere = holdsAll.length === devices;
	if (everywhere) return { everywhere, home: blocks.map(() => 0), spare: free, holdsAll };
	const most = Math.max(...free);
	const tooLarge = blocks.find(({ paramBytes }) => paramBytes > most);
	if (tooLarge) throw noRoom(problem, tooLarge, most);
	const home = inChainOrder(blocks, free) ?? largestFirst(blocks, free);
	if (typeof home === 'number') throw noRoom(problem, blocks[home]!, most);
	const spare = [...free];
	for (const [b, device] of home.entries()) spare[device]! -= blocks[b]!.paramBytes;
	return { everywhere, home, spare, holdsAll };
}

function noRoom(problem: FillProblem, block: Block, most: number): Error {
	return fillError('its weights fit on no device', blockPlace(problem, block), {
		expected: `${block.paramBytes} bytes free on a device, beside the other frozen layers there`,
		found: `at most ${most} bytes free for frozen layers on one device`,
		hint: 'more stages or devices, or recomputation, leave more room for frozen weights',
	});
}

/** Chains stay together: the next block goes where the last one went while there is room, then to the device with most room left. */
function inChainOrder(blocks: readonly Block[], free: readonly number[]): number[] | undefined {
	const left = [...free];
	const home: number[] = [];
	let device = left.indexOf(Math.max(...left));
	for (const { paramBytes } of blocks) {
		if (left[device]! < paramBytes) device = left.indexOf(Math.max(...left));
		if (left[device]! < paramBytes) return undefined;
		left[device]! -= paramBytes;
		home.push(device);
	}
	return home;
}

/** Largest first, each where least room is left over; the block that finds none when that fails. */
function largestFirst(blocks: readonly Block[], free: readonly number[]): number[] | number {
	const left = [...free];
	const home = Array<number>(blocks.length).fill(-1);
	const bySize = [...blocks.keys()].sort((a, b) => blocks[b]!.paramBytes - blocks[a]!.paramBytes);
	for (const b of bySize) {
		const { paramBytes } = blocks[b]!;
		let best = -1;
		for (const [device, bytes] of left.entries()) {
			if (bytes >= paramBytes && (best < 0 || bytes < left[best]!)) best = device;
		}
		if (best < 0) return b;
		left[best]! -= paramBytes;
		home[b] = best;
	}
	return home;
}

/** Copies of weights as a filling takes shape. */
export interface Residency {
	has(block: number, device: number): boolean;
	/** Whether the block is there already or still fits. */
	mayRun(block: number, device: number): boolean;
	add(block: number, device: number): void;
}

/** Starts with every block at home alone. */
export function residency({ everywhere, home, spare }: Weights, blocks: readonly Block[]): Residency {
	if (everywhere) return { has: () => true, mayRun: () => true, add: () => {} };
	const left = [...spare];
	const held = new Uint8Array(blocks.length * left.length);
	for (const [b, device] of home.entries()) held[b * left.length + device] = 1;
	const has = (block: number, device: number) => held[block * left.length + device] === 1;
	return {
		has,
		mayRun: (block, device) => has(block, device) || left[device]! >= blocks[block]!.paramBytes,
		add(block, device) {
			if (has(block, device)) return;
			left[device]! -= blocks[block]!.paramBytes;
			held[block * left.length + device] = 1;
		},
	};
}
