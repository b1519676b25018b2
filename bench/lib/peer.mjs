/** @file A Python process beside the bench: it answers requests, one JSON object a line, so that both sides take turns. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Path of the interpreter with PyTorch: `DIFFUSIONPIPE_PYTHON`, else the repository's .venv. Throws saying how to make it. */
export function pythonPath() {
	const named = process.env.DIFFUSIONPIPE_PYTHON;
	const path = named ?? `${root}.venv/bin/python`;
	if (existsSync(path)) return path;
	throw new Error(
		`no Python with PyTorch at ${path}${named ? ' (DIFFUSIONPIPE_PYTHON)' : ''}. Make one in the repository root with\n` +
			'  python3 -m venv .venv && .venv/bin/pip install torch==2.13.0+cpu safetensors numpy ' +
			'--extra-index-url https://download.pytorch.org/whl/cpu\n' +
			'or name an interpreter that has them in DIFFUSIONPIPE_PYTHON.',
	);
}

/**
 * Starts a script of bench/torch that speaks JSON lines. `ask(request)` resolves with its answer and rejects when the answer is
 * an error or the process ends; one request at a time.
 */
export function startPeer(script, args = [], env = {}) {
	const child = spawn(pythonPath(), [`${root}bench/torch/${script}`, ...args], {
		stdio: ['pipe', 'pipe', 'pipe'],
		env: { ...process.env, ...env },
	});
	let errors = '';
	child.stderr.setEncoding('utf8').on('data', (text) => {
		errors = (errors + text).slice(-4000);
	});
	let waiting;
	const settle = (how, value) => {
		const entry = waiting;
		waiting = undefined;
		entry?.[how](value);
	};
	createInterface({ input: child.stdout }).on('line', (line) => {
		const answer = JSON.parse(line);
		if (answer.error) settle('reject', new Error(`${script}: ${answer.error}`));
		else settle('resolve', answer);
	});
	child.on('error', (error) => settle('reject', error));
	child.on('exit', (code) => settle('reject', new Error(`${script} ended with code ${code}\n${errors}`)));
	return {
		pid: child.pid,
		ask(request) {
			return new Promise((resolve, reject) => {
				if (child.exitCode !== null) {
					reject(new Error(`${script} ended with code ${child.exitCode}\n${errors}`));
					return;
				}
				waiting = { resolve, reject };
				child.stdin.write(`${JSON.stringify(request)}\n`);
			});
		},
		/** Ends it; resolves when it is gone. */
		async close() {
			if (child.exitCode !== null) return;
			const gone = new Promise((resolve) => child.once('exit', resolve));
			child.stdin.end();
			await gone;
		},
	};
}
