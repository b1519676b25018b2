/** @file A filling as it takes shape: what ran where on which samples, and the moves that this took. */
import { blockMs, type FillModel } from './model.ts';

/** A block on samples [from, to) on one device. */
export interface Piece {
	readonly block: number;
	readonly from: number;
	readonly to: number;
	readonly device: number;
	readonly start: number;
	readonly end: number;
}

/** The output of a block on samples [from, to) from device `source` to device `device`. */
export interface Transfer extends Piece {
	readonly source: number;
}

export interface Timeline {
	readonly model: FillModel;
	/** Per block. */
	readonly pieces: readonly Piece[][];
	readonly arrivals: readonly Transfer[][];
	/** [source * devices + device]: when the link carries something, in order of time. */
	readonly links: Map<number, Transfer[]>;
	/** Every move in the order in which they were made, to take the last ones back. */
	readonly made: Transfer[];
}

/** A timeline of `model` with nothing on it. */
export function emptyTimeline(model: FillModel): Timeline {
	const { blocks } = model;
	return {
		model,
		pieces: blocks.map(() => []),
		arrivals: blocks.map(() => []),
		links: new Map(),
		made: [],
	};
}

/** Makes the moves that `block` on samples [from, to) on `device` takes and says when all is there. */
export function bring(timeline: Timeline, block: number, from: number, to: number, device: number): number {
	let ready = 0;
	for (const needed of timeline.model.blocks[block]!.before) {
		for (const piece of timeline.pieces[needed]!) {
			if (piece.from >= to || piece.to <= from) continue;
			if (piece.device === device) {
				ready = Math.max(ready, piece.end);
				continue;
			}
			const transfer = arrival(timeline, piece, Math.max(from, piece.from), Math.min(to, piece.to), device);
			if (!timeline.arrivals[needed]!.includes(transfer)) addTransfer(timeline, transfer);
			ready = Math.max(ready, transfer.end);
		}
	}
	return ready;
}

/** Adds a piece whose inputs have been brought. */
export function addPiece(timeline: Timeline, block: number, from: number, to: number, device: number, start: number): Piece {
	const piece = { block, from, to, device, start, end: start + blockMs(timeline.model, block, to - from) };
	timeline.pieces[block]!.push(piece);
	return piece;
}

/** The move that has brought these samples of `piece` to `device`, or the one that would: in the first gap of the link that is long enough. */
function arrival(timeline: Timeline, piece: Piece, from: number, to: number, device: number): Transfer {
	const known = timeline.arrivals[piece.block]!.find(
		(other) => other.device === device && other.source === piece.device && other.from <= from && other.to >= to,
	);
	if (known) return known;
	const { model } = timeline;
	const ms = model.problem.transferMs(model.blocks[piece.block]!.outputBytes * (to - from), piece.device, device);
	let start = piece.end;
	for (const other of timeline.links.get(piece.device * model.devices + device) ?? []) {
		if (other.start - start >= ms) break;
		start = Math.max(start, other.end);
	}
	return { block: piece.block, from, to, device, source: piece.device, start, end: start + ms };
}

function addTransfer({ model, links, arrivals, made }: Timeline, transfer: Transfer): void {
	arrivals[transfer.block]!.push(transfer);
	const key = transfer.source * model.devices + transfer.device;
	const link = links.get(key) ?? [];
	links.set(key, link);
	let at = link.length;
	while (at > 0 && link[at - 1]!.start > transfer.start) at--;
	link.splice(at, 0, transfer);
	made.push(transfer);
}

/** Takes back the moves made since there were `count` of them. */
export function undoMoves({ model, links, arrivals, made }: Timeline, count: number): void {
	while (made.length > count) {
		const transfer = made.pop()!;
		const own = arrivals[transfer.block]!;
		own.splice(own.lastIndexOf(transfer), 1);
		const link = links.get(transfer.source * model.devices + transfer.device)!;
		link.splice(link.lastIndexOf(transfer), 1);
	}
}
