/** @file What a measurement was taken on, and on which core it runs. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';

/** The machine in a few words, with the load of the last minute: a busy machine measures badly. */
export function describeMachine() {
	return {
		cpu: cpus()[0]?.model.trim() ?? 'unknown',
		cores: availableParallelism(),
		memoryGiB: Math.round(totalmem() / 2 ** 30),
		os: `${type()} ${release()}`,
		node: process.version,
		onnxruntime: installedVersion('onnxruntime-node'),
		load: Math.round(loadavg()[0] * 10) / 10,
	};
}

function installedVersion(name) {
	const file = new URL(`../../node_modules/${name}/package.json`, import.meta.url);
	return JSON.parse(readFileSync(file, 'utf8')).version;
}

/** The core benches run on: `DIFFUSIONPIPE_CORE`, else the last one this process may use. */
export function benchCore() {
	if (process.env.DIFFUSIONPIPE_CORE) return Number(process.env.DIFFUSIONPIPE_CORE);
	try {
		const list = execFileSync('taskset', ['-c', '-p', `${process.pid}`], { encoding: 'utf8' });
		return Number(list.trim().match(/(\d+)$/)[1]);
	} catch {
		return availableParallelism() - 1;
	}
}

/**
 * Keeps a process (this one unless told otherwise) and the threads it starts from now on to the given cores. Returns false where
 * the system has no taskset: the measurement goes on, with the scheduler moving threads about.
 */
export function pin(cores, pid = process.pid) {
	try {
		execFileSync('taskset', ['-a', '-c', '-p', cores.join(','), `${pid}`], { stdio: 'ignore' });
		return true;
	} catch {
		return false;
	}
}
