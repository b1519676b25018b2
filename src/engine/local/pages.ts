/**
 * @file Large pages for the engine's memory. A product reads rows that lie kilobytes apart: with pages of 4 KiB nearly every row needs an address
 * translation of its own, with pages of 2 MiB few do (a training step of a small transformer: 3 to 5 % less time). Linux gives large pages to memory
 * that asks for them before it is first touched; on other systems nothing happens here.
 */
import koffi from 'koffi';
import { createBuilder } from '../../graph/builder.ts';
import { writeOnnx } from '../../graph/onnx/index.ts';
import { createSession, type Environment } from './native.ts';
import { openOrt, type Pointer } from './ort.ts';

const largePage = 2n ** 21n;
const MADV_HUGEPAGE = 14;

type Advise = (address: Pointer, bytes: number | bigint, advice: number) => number;
let advise: Advise | undefined;

function adviseFunction(): Advise | undefined {
	if (process.platform !== 'linux') return undefined;
	// The C library is part of the running program, whichever one that is.
	advise ??= koffi.load(null).func('int madvise(void *address, size_t bytes, int advice)') as Advise;
	return advise;
}

/** Asks for large pages under the whole large pages within [address, address + bytes). The system may refuse: that is no error. */
export function adviseLargePages(address: Pointer, bytes: number): void {
	const from = ((address + largePage - 1n) / largePage) * largePage;
	const to = ((address + BigInt(bytes)) / largePage) * largePage;
	if (to > from) adviseFunction()?.(from, to - from, MADV_HUGEPAGE);
}

/** Less than this is not worth a session. */
const leastReserve = 2 ** 24;

/**
 * Extends the shared arena by one piece of `bytes` bytes with large pages, which then serves what graphs allocate. Pages never used cost nothing. What the
 * system does not give is left to be asked for again, piece by piece, when it is needed.
 */
export function reserveArena(environment: Environment, bytes: number): void {
	if (process.platform !== 'linux' || bytes < leastReserve) return;
	const ort = openOrt();
	const g = createBuilder('reserve');
	const graph = g.finish([g.identity(g.input('x', 'float32', [1]))]);
	// An allocator can only be had from a session; sessions share the arena.
	const session = createSession(environment, graph.name, writeOnnx(graph), graph);
	const out: (Pointer | null)[] = [null];
	ort.check('CreateAllocator', 'shared arena', session.handle, environment.memory, out);
	const allocator = out[0]!;
	try {
		ort.check('AllocatorAlloc', 'shared arena', allocator, bytes, out);
		const piece = out[0]!;
		adviseLargePages(piece, bytes);
		ort.check('AllocatorFree', 'shared arena', allocator, piece);
	} catch {
		// An upper bound that does not fit says nothing about the run.
	} finally {
		ort.release('ReleaseAllocator', allocator);
		session.release();
	}
}
