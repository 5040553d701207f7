/* A library in which a thread waits for good. What its tables say of that function is up to who compiles it. */
#ifndef PROLOGUE
#define PROLOGUE
#endif
#ifndef NAME
#define NAME "guest_sleep"
#endif
    .text
    .globl guest_wait
    .type guest_wait, @function
guest_wait:
    .cfi_startproc
    PROLOGUE
    jmp sleep
    .cfi_endproc
    .size guest_wait, . - guest_wait

    .type sleep, @function
sleep:
    .cfi_startproc
#ifdef TABLE
    TABLE
#endif
1:  mov $34, %eax               /* pause */
    syscall
    jmp 1b
    .cfi_endproc
    .size sleep, . - sleep
    .section .note.GNU-stack, "", @progbits
