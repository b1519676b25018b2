/** @file Checks of Node.js, processor and memory. */
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { formatBytes } from '../format.ts';
import { packageInfo } from '../package-root.ts';
import type { Finding } from './index.ts';

/** Least version as package.json says it: `>=20.19`. */
export function checkNode(_context?: unknown, version = process.versions.node): Finding {
	const wanted = packageInfo().engines.node.replace(/^>=/, '');
	const values = { version, wanted };
	if (atLeast(version, wanted)) return { status: 'ok', text: `${version} (${process.platform}-${process.arch})`, values };
	return { status: 'fail', text: `${version} is older than ${wanted}`, hint: `install Node.js ${wanted} or newer`, values };
}

/** True when the dotted version `found` is `wanted` or newer. */
export function atLeast(found: string, wanted: string): boolean {
	const [a, b] = [found, wanted].map((v) => v.split('.').map((n) => Number.parseInt(n, 10)));
	for (const [i, least] of b!.entries()) {
		const part = a![i] ?? 0;
		if (part !== least) return part > least;
	}
	return true;
}

/** Cores this process may use, which is what devices and threads share. */
export function checkCores(): Finding {
	const cores = availableParallelism();
	const model = cpus()[0]?.model ?? 'unknown processor';
	return {
		status: cores > 1 ? 'ok' : 'warn',
		text: `${cores} x ${model.trim()}`,
		...(cores > 1 ? {} : { hint: 'pipelines run on one core too, but gain nothing there' }),
		values: { cores, model },
	};
}

/** Below this, small models train but larger ones will not. */
const littleMemory = 2e9;

/** Memory of the machine, or of the container it is limited to. */
export function checkMemory(): Finding {
	const limit = process.constrainedMemory?.() ?? 0;
	// Without a limit Node gives 0 or a number beyond any memory.
	const total = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
	const free = Math.min(freemem(), total);
	return {
		status: total < littleMemory ? 'warn' : 'ok',
		text: `${formatBytes(total)}, ${formatBytes(free)} free`,
		...(total < littleMemory ? { hint: `keep to small models: this is less than ${formatBytes(littleMemory)}` } : {}),
		values: { totalBytes: total, freeBytes: free },
	};
}
