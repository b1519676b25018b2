#!/usr/bin/env node
/** @file The program `diffusionpipe`: joins the process to a run of the program. */
import { watchInterrupts } from './interrupt.ts';
import { runProgram } from './program.ts';

// A reader that has seen enough (`| head`) is no failure to report.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
	if (error.code === 'EPIPE') process.exit(1);
	throw error;
});

const interrupt = watchInterrupts(
	process,
	(text) => process.stderr.write(text),
	(code) => process.exit(code),
);
process.exitCode = await runProgram(process.argv.slice(2), {
	stdout: process.stdout,
	stderr: process.stderr,
	cwd: process.cwd(),
	env: process.env,
	isTTY: process.stderr.isTTY === true,
	signal: interrupt.signal,
	finishOnInterrupt: interrupt.finishOnInterrupt,
});
interrupt.dispose();
