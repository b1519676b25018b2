/** @file What the device threads share: the stop flag, FIFO channels of native values, and barriers. All waits watch the flag. */
import type { Pointer } from './ort.ts';

/** Thrown in a device whose partner failed; never the error a person sees. */
export class Stopped extends Error {
	constructor() {
		super('another device stopped the run');
		this.name = 'Stopped';
	}
}

/** One word: 0 running, 1 stopped. */
export type Control = Int32Array;

/** The flag of one engine, down. */
export function createControl(): Control {
	return new Int32Array(new SharedArrayBuffer(4));
}

/** Throws Stopped when the flag is up. */
export function checkRunning(control: Control): void {
	if (Atomics.load(control, 0) !== 0) throw new Stopped();
}

/** Raises the flag. Waits notice it within `patience` ms. */
export function stop(control: Control): void {
	Atomics.store(control, 0, 1);
}

const patience = 50;

function waitWhile(control: Control, words: Int32Array, index: number, value: number): void {
	while (Atomics.load(words, index) === value) {
		checkRunning(control);
		Atomics.wait(words, index, value, patience);
	}
}

/** A FIFO of native values between two threads: a ring of addresses, and where its head and tail are, counted modulo twice its length. */
export interface Channel {
	readonly counters: Int32Array;
	readonly ring: BigUint64Array;
}

/** An empty channel for at most `capacity` values at a time. */
export function createChannel(capacity: number): Channel {
	return { counters: new Int32Array(new SharedArrayBuffer(8)), ring: new BigUint64Array(new SharedArrayBuffer(8 * capacity)) };
}

/** Puts a value in; waits only when the ring is full. */
export function push(control: Control, { counters, ring }: Channel, value: Pointer): void {
	const tail = Atomics.load(counters, 1);
	const turn = 2 * ring.length;
	for (;;) {
		const head = Atomics.load(counters, 0);
		if ((tail - head + turn) % turn < ring.length) break;
		waitWhile(control, counters, 0, head);
	}
	ring[tail % ring.length] = value;
	Atomics.store(counters, 1, (tail + 1) % turn);
	Atomics.notify(counters, 1);
}

/** Takes the oldest value out; waits until there is one. Throws Stopped when the run is stopped meanwhile. */
export function pop(control: Control, { counters, ring }: Channel): Pointer {
	const head = Atomics.load(counters, 0);
	waitWhile(control, counters, 1, head);
	const value = ring[head % ring.length]!;
	Atomics.store(counters, 0, (head + 1) % (2 * ring.length));
	Atomics.notify(counters, 0);
	return value;
}

/** Values still in the ring, oldest first, taken out without waiting (to release them after a failure). */
export function drain({ counters, ring }: Channel): Pointer[] {
	const values: Pointer[] = [];
	const tail = Atomics.load(counters, 1);
	for (let head = Atomics.load(counters, 0); head !== tail; head = (head + 1) % (2 * ring.length)) values.push(ring[head % ring.length]!);
	Atomics.store(counters, 0, tail);
	return values;
}

/** A meeting point of `members` threads, and tables in which each shows the others an address and a length. */
export interface Meeting {
	readonly members: number;
	readonly words: Int32Array;
	readonly addresses: BigUint64Array;
	readonly lengths: Float64Array;
}

/** A meeting of `members` threads that nobody has come to. */
export function createMeeting(members: number): Meeting {
	return {
		members,
		words: new Int32Array(new SharedArrayBuffer(8)),
		addresses: new BigUint64Array(new SharedArrayBuffer(8 * members)),
		lengths: new Float64Array(new SharedArrayBuffer(8 * members)),
	};
}

/** Returns when all members have called it as often as this one. */
export function meet(control: Control, { members, words }: Meeting): void {
	const round = Atomics.load(words, 1);
	if (Atomics.add(words, 0, 1) + 1 === members) {
		Atomics.store(words, 0, 0);
		Atomics.add(words, 1, 1);
		Atomics.notify(words, 1);
	} else waitWhile(control, words, 1, round);
}
